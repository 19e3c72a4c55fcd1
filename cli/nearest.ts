/** Which command somebody meant who typed another one. */

/** Letters that may differ; beyond that a guess is no help. */
const FAR = 2;
const SHOWN = 3;

/**
 * The commands nearest to the words that were typed, at most three: as many of their first words as a command has.
 * @param words what was typed, options and values among it
 */
export function nearest(words: readonly string[], names: readonly string[]): readonly string[] {
  const scored = names.flatMap((name) => {
    const typed = words.slice(0, name.split(' ').length).join(' ').slice(0, 100);
    const far = distance(typed, name);
    return far > FAR ? [] : [{ name, far }];
  });
  return scored
    .toSorted((a, b) => a.far - b.far)
    .slice(0, SHOWN)
    .map(({ name }) => name);
}

/** Letters added, left out or replaced (Levenshtein), and neighbours that changed places, which count as one. */
export function distance(a: string, b: string): number {
  let [older, old]: [readonly number[], readonly number[]] = [
    [],
    Array.from({ length: b.length + 1 }, (_, at) => at),
  ];
  for (let i = 1; i <= a.length; i += 1) {
    const row = [i];
    for (let j = 1; j <= b.length; j += 1) {
      const same = a[i - 1] === b[j - 1] ? 0 : 1;
      let least = Math.min(old[j]! + 1, row[j - 1]! + 1, old[j - 1]! + same);
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1])
        least = Math.min(least, older[j - 2]! + 1);
      row.push(least);
    }
    [older, old] = [old, row];
  }
  return old[b.length]!;
}
