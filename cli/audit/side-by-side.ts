/** Many small questions to the outside, a few at a time. */

/** Their answers, in the order of the items. The first that fails ends it. */
export async function sideBySide<Item, Answer>(
  items: readonly Item[],
  atOnce: number,
  ask: (item: Item) => Promise<Answer>,
): Promise<Answer[]> {
  const answers = new Array<Answer>(items.length);
  const queue = items.entries();
  const worker = async () => {
    for (const [at, item] of queue) answers[at] = await ask(item);
  };
  await Promise.all(Array.from({ length: atOnce }, worker));
  return answers;
}
