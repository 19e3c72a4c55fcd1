/** Leaves an endpoint alone for a while when it says that it is asked too often: the more often it says so, the longer. */
import { type RpcEndpoint, RpcRateLimited } from '../../chain/json-rpc.ts';

const PAUSE_MIN_MS = 500;
const PAUSE_MAX_MS = 60_000;
/** The longest pause that an endpoint may ask for: any more would amount to being cut off by it. */
const TOLD_MAX_MS = 300_000;

/** @param now milliseconds */
export function paced(endpoint: RpcEndpoint, now: () => number = Date.now): RpcEndpoint {
  let until = 0;
  let refusals = 0;
  let said = '';
  return {
    url: endpoint.url,
    name: endpoint.name,
    async call(schema, method, params) {
      const rest = until - now();
      if (rest > 0) {
        throw new RpcRateLimited(`left alone for ${Math.ceil(rest / 1000)} s: ${said}`, rest);
      }
      try {
        const result = await endpoint.call(schema, method, params);
        refusals = 0;
        return result;
      } catch (error) {
        // Calls that were in flight together are refused together: that counts as one refusal.
        if (error instanceof RpcRateLimited && until <= now()) {
          const own = Math.min(PAUSE_MAX_MS, PAUSE_MIN_MS * 2 ** Math.min(refusals, 10));
          until = now() + Math.max(own, Math.min(TOLD_MAX_MS, error.retryAfter ?? 0));
          refusals += 1;
          said = error.message;
        }
        throw error;
      }
    },
  };
}
