/**
 * Loaded with `node --import` into a daemon: the machine's clock as a host may set it. An hour ahead or behind, another way
 * at each look. What a node decides must rest on the chain's time and on the boot clock alone.
 */
const RealDate = Date;
const HOUR = 3_600_000;
let looks = 0;

function wrongNow(): number {
  looks += 1;
  return RealDate.now() + (looks % 2 === 0 ? HOUR : -HOUR);
}

globalThis.Date = new Proxy(RealDate, {
  construct: (target, args) => Reflect.construct(target, args.length === 0 ? [wrongNow()] : args),
  get: (target, name) => (name === 'now' ? wrongNow : Reflect.get(target, name)),
});
