/** The OpenAPI document (3.1) of the agent API, made from the schemas that requests are checked by: docs/agent.openapi.json is a copy. */
import { type TSchema, Type } from 'typebox';
import { type Operation, operations, RefusalSchema } from '../../lib/protocol/agent-api.ts';
import { Tag } from '../../lib/protocol/sockets.ts';

const HexInPath = Type.String({ pattern: '^([0-9a-fA-F]{2})*$', maxLength: 8192 });

const content = (schema: TSchema, type = 'application/json') => ({ content: { [type]: { schema } } });
const refused = { description: 'Refused, by its code', ...content(RefusalSchema) };
const inPath = (name: string, schema: TSchema) => ({ name, in: 'path', required: true, schema });

const describeOperation = (name: string, { summary, word, request, reply, method }: Operation) => ({
  operationId: name,
  summary,
  description: word === 'any' ? 'Needs any word in `api`.' : `Needs "${word}" in the manifest's \`api\`.`,
  ...(method === 'POST' ? { requestBody: { required: true, ...content(request) } } : {}),
  responses: { '200': { description: 'The answer', ...content(reply) }, default: refused },
});

/** The paths of the prototype, whose answers are no JSON. */
const older = (
  operationId: string,
  summary: string,
  parameters: readonly object[],
  reply: TSchema,
  type: string,
) => ({
  get: {
    ...{ operationId, summary, parameters },
    responses: { '200': { description: 'The answer', ...content(reply, type) }, default: refused },
  },
});
const Binary = Type.String({ format: 'binary' });

export function openApi(): object {
  const data = [inPath('tag', Tag), inPath('hex', HexInPath)];
  return {
    openapi: '3.1.0',
    info: {
      title: 'dstack agent API',
      version: '1',
      description: 'What an app asks of its node. Bytes are lower-case hex without 0x.',
    },
    servers: [{ url: 'http://dstack-guest' }],
    paths: {
      ...Object.fromEntries(
        Object.entries(operations as Record<string, Operation>).map(([name, operation]) => [
          operation.path,
          { [operation.method.toLowerCase()]: describeOperation(name, operation) },
        ]),
      ),
      '/getkey/{tag}': older(
        'getkey',
        'The raw key of a tag, as 64 hex digits',
        [inPath('tag', Tag)],
        Type.String({ pattern: '^[0-9a-f]{64}$' }),
        'text/plain',
      ),
      '/attest/{tag}/{hex}': older(
        'attestBytes',
        'v, r and s, 65 bytes',
        data,
        Binary,
        'application/octet-stream',
      ),
      '/appdata/{tag}/{hex}': older(
        'appdata',
        'The digest that /attest signs, 32 bytes',
        data,
        Binary,
        'application/octet-stream',
      ),
    },
  };
}
