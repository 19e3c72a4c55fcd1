/** Leaves an endpoint alone for a while when it says that it is asked too much, the longer the more often it says so. */
import { Retryable } from '../../lib/framework/handler.ts';
import type { RpcEndpoint } from '../../lib/framework/json-rpc.ts';
import { codeOf } from '../../lib/protocol/errors.ts';

const PAUSE_MIN_MS = 500;
const PAUSE_MAX_MS = 60_000;

/** @param now milliseconds */
export function paced(endpoint: RpcEndpoint, now: () => number = Date.now): RpcEndpoint {
  let until = 0;
  let refusals = 0;
  return {
    url: endpoint.url,
    async call(schema, method, params) {
      const rest = until - now();
      if (rest > 0) {
        const message = `${endpoint.url} wants fewer requests: it is left alone for ${Math.ceil(rest / 1000)} s`;
        throw new Retryable('RPC_RATE_LIMITED', message);
      }
      try {
        const result = await endpoint.call(schema, method, params);
        refusals = 0;
        return result;
      } catch (error) {
        // Calls that were under way together are told so together: that is one refusal.
        if (codeOf(error) === 'RPC_RATE_LIMITED' && until <= now()) {
          until = now() + Math.min(PAUSE_MAX_MS, PAUSE_MIN_MS * 2 ** Math.min(refusals, 10));
          refusals += 1;
        }
        throw error;
      }
    },
  };
}
