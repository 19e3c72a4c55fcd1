/** A time of the chain, in Unix seconds, for people; as it is when it lies beyond what a date can be. */
export function instant(seconds: bigint): string {
  return seconds > 8_640_000_000_000n ? `second ${seconds}` : new Date(Number(seconds) * 1_000).toISOString();
}
