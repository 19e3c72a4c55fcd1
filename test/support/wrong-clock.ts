/**
 * Loaded with `node --import` into a daemon: the machine's clock as a host may set it, an hour ahead or behind in turn at each
 * reading. A node's decisions must depend on the chain's time and on the boot clock only.
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
