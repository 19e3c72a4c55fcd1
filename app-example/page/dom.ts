/** Elements and text: what a node or a visitor says goes in as text only. */

export function el(
  name: string,
  attributes: Readonly<Record<`data-${string}`, string>>,
  ...children: readonly (Node | string | undefined)[]
): HTMLElement {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children.filter((child) => child !== undefined));
  return element;
}

/** What an element holds from now on. @param id of an element of the page */
export function fill(id: string, ...children: readonly (Node | string)[]): void {
  document.getElementById(id)?.replaceChildren(...children);
}
