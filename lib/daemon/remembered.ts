/** What is the same each time it is made, and is asked for by those who should not have it made each time. */

/**
 * As `make`, which is called once for each key, until so many others have been asked for. A promise that rejects is not remembered.
 * @param most how many are remembered
 */
export function remembered<K, V>(most: number, make: (key: K) => V): (key: K) => V {
  const known = new Map<K, V>();
  return (key) => {
    const found = known.get(key);
    if (found !== undefined) return found;
    const made = make(key);
    const [oldest] = known.keys();
    if (known.size >= most && oldest !== undefined) known.delete(oldest);
    known.set(key, made);
    if (made instanceof Promise)
      made.catch(() => {
        if (known.get(key) === made) known.delete(key);
      });
    return made;
  };
}
