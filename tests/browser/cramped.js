// What is wrong with the page as it is laid out now, in sentences: it scrolls sideways; a part scrolls sideways without need
// (tables, drawings and time lines may, where the keyboard reaches them); words are cut off, leave the page, or are printed
// over each other (WCAG 1.4.4, 1.4.10). What is said to screen readers only, is hidden or belongs to a picture is left out.
async () => {
  const OVERLAP_PX = 3; // letters' own edges may share so much
  await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done))); // what watches its size has drawn
  const found = [];
  const root = document.documentElement;
  const wide = root.scrollWidth - root.clientWidth;
  if (wide > 0) found.push(`the page scrolls ${wide} px sideways`);

  const name = (one) => [one.localName, one.id && `#${one.id}`, ...[...one.classList].map((word) => `.${word}`)].join("");
  const mayScroll = (one) =>
    one.matches(".heat-scroll") || (one.tabIndex >= 0 && one.querySelector("table, svg, pre, textarea") !== null);
  for (const one of document.body.querySelectorAll("*")) {
    const seen = one instanceof HTMLElement && one.clientWidth > 1 && !one.closest(".quiet") && one.checkVisibility();
    if (!seen || one.scrollWidth <= one.clientWidth + 1) continue;
    const flow = getComputedStyle(one).overflowX;
    if (["auto", "scroll"].includes(flow) && !mayScroll(one)) found.push(`${name(one)} scrolls sideways`);
    if (["hidden", "clip"].includes(flow) && one.textContent.trim()) found.push(`${name(one)} cuts off what is in it`);
  }

  /** Where what is inside of an element can be seen. */
  const clip = (home) => {
    const area = { left: -Infinity, right: Infinity, top: -Infinity, bottom: Infinity };
    for (let one = home; one && one !== document.body; one = one.parentElement) {
      if (one instanceof SVGElement || getComputedStyle(one).overflowX === "visible") continue;
      const box = one.getBoundingClientRect();
      area.left = Math.max(area.left, box.left);
      area.right = Math.min(area.right, box.right);
      area.top = Math.max(area.top, box.top);
      area.bottom = Math.min(area.bottom, box.bottom);
    }
    return area;
  };
  const lines = []; // of text that can be seen, each with its box
  // What lies over the page on purpose covers it.
  const stage = document.querySelector("dialog:modal, .bell[open] .bell-panel") ?? document.body;
  const texts = document.createTreeWalker(stage, NodeFilter.SHOW_TEXT);
  const range = document.createRange();
  while (texts.nextNode()) {
    const home = texts.currentNode.parentElement;
    const text = texts.currentNode.data.trim();
    if (!text || home.closest(".quiet, .skip, option, [aria-hidden=true] svg")) continue;
    if (!home.checkVisibility({ visibilityProperty: true, opacityProperty: true })) continue;
    const area = clip(home);
    range.selectNodeContents(texts.currentNode);
    for (const box of range.getClientRects()) {
      const [left, right] = [Math.max(area.left, box.left), Math.min(area.right, box.right)];
      const [top, bottom] = [Math.max(area.top, box.top), Math.min(area.bottom, box.bottom)];
      if (right - left > 1 && bottom - top > 1) lines.push({ left, right, top, bottom, said: `“${text}” (${name(home)})` });
    }
  }
  lines.sort((one, other) => one.top - other.top);
  lines.forEach((one, place) => {
    if (one.right > root.clientWidth + 1 || one.left < -1) found.push(`${one.said} leaves the page`);
    for (const other of lines.slice(place + 1)) {
      if (other.top >= one.bottom) break;
      const across = Math.min(one.right, other.right) - Math.max(one.left, other.left);
      const down = Math.min(one.bottom, other.bottom) - other.top;
      // A line's box is higher than its letters: neighbours of one paragraph share a little.
      const lower = Math.min(one.bottom - one.top, other.bottom - other.top);
      if (across > OVERLAP_PX && down > lower / 2) found.push(`${one.said} and ${other.said} cover each other`);
    }
  });
  return found;
};
