// Makes one tree of nodes equal another by changing as little as possible: what stays the same keeps focus and place.

function alike(one: ChildNode, other: ChildNode): boolean {
  return one.nodeType === other.nodeType && one.nodeName === other.nodeName;
}

function dress(shown: Element, fresh: Element): void {
  for (const { name } of Array.from(shown.attributes)) if (!fresh.hasAttribute(name)) shown.removeAttribute(name);
  for (const { name, value } of Array.from(fresh.attributes)) {
    if (shown.getAttribute(name) !== value) shown.setAttribute(name, value);
  }
}

/** Give `shown` the children of `fresh`, which is used up. */
export function morph(shown: Element, fresh: Element): void {
  const wanted = Array.from(fresh.childNodes);
  wanted.forEach((next, place) => {
    const now = shown.childNodes[place];
    if (now === undefined) {
      shown.append(next);
    } else if (!alike(now, next)) {
      now.replaceWith(next);
    } else if (now instanceof Element && next instanceof Element) {
      dress(now, next);
      morph(now, next);
    } else if (now.nodeValue !== next.nodeValue) {
      now.nodeValue = next.nodeValue;
    }
  });
  while (shown.childNodes.length > wanted.length) shown.lastChild?.remove();
}
