// Lists come in pages: `{results, next}`, the rest of the list at `cursor=next`.

export interface Listed<T> {
  results: T[];
  next: string | null;
}

/** All of a list, at most `pages` pages of it. `path` has a query; `get` asks for one page. */
export async function all<T>(get: (path: string) => Promise<Listed<T>>, path: string, pages: number): Promise<T[]> {
  const found: T[] = [];
  let cursor = "";
  for (let page = 0; page < pages; page++) {
    const { results, next } = await get(path + cursor);
    found.push(...results);
    if (next === null) break;
    cursor = `&cursor=${encodeURIComponent(next)}`;
  }
  return found;
}
