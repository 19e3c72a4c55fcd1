/**
 * Items and bounds as 40 bytes whose order is theirs: timestamp (8, big-endian), identity (32). An item is a place, and so is what separates two
 * items: a bound need not be an item.
 */
export const PLACE_BYTES = 40;
const TIME_BYTES = 8;

/** Behind all items: negentropy's infinity, a timestamp that no item has. */
export const END: Uint8Array = Uint8Array.from({ length: PLACE_BYTES }, (_, i) =>
  i < TIME_BYTES ? 0xff : 0,
);
export const BEGINNING: Uint8Array = new Uint8Array(PLACE_BYTES);

/** @param timestamp milliseconds since 1970 @param id up to 32 bytes; what is missing is zeros */
export function placeOf(timestamp: number | bigint, id: Uint8Array): Uint8Array {
  const place = Buffer.alloc(PLACE_BYTES);
  place.writeBigUInt64BE(BigInt(timestamp));
  place.set(id, TIME_BYTES);
  return place;
}

export function timestampAt(place: Uint8Array): bigint {
  return Buffer.from(place.buffer, place.byteOffset, place.length).readBigUInt64BE();
}

export function idAt(place: Uint8Array): Uint8Array {
  return place.subarray(TIME_BYTES);
}

/** The shortest bound that `before` is below and `item` is not ("Bound"): no identity if the times differ. */
export function boundBetween(before: Uint8Array, item: Uint8Array): Uint8Array {
  const differs = item.findIndex((byte, i) => byte !== before[i]);
  const end = differs < TIME_BYTES ? TIME_BYTES : differs + 1;
  const bound = new Uint8Array(PLACE_BYTES);
  bound.set(item.subarray(0, end));
  return bound;
}

/** Of a bound's identity: all but the zeros at its end, which need not be written. */
export function prefixAt(bound: Uint8Array): Uint8Array {
  const id = idAt(bound);
  return id.subarray(0, id.findLastIndex((byte) => byte !== 0) + 1);
}
