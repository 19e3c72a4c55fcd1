/** Which path of the node's folder is whose to answer. What is none of them is answered here too: never by an app. */
import { type NodeHandler, pathOf, refusal } from './node-reply.ts';

/** @param handlers by path */
export function nodePaths(handlers: Readonly<Record<string, NodeHandler>>): NodeHandler {
  const known = Object.keys(handlers).join(', ');
  return async (request) => {
    const path = pathOf(request.target);
    const handler = Object.hasOwn(handlers, path) ? handlers[path] : undefined;
    return handler === undefined
      ? refusal(404, 'NO_ROUTE', `a node answers ${known} here`)
      : handler(request);
  };
}
