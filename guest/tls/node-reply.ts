/** What is asked of the node itself, through the front, and what it answers: the forms that its handlers share. */
import { NODE_FOLDER } from '../../lib/protocol/site-evidence.ts';

export interface NodeRequest {
  method: string;
  /** The request target as it came: origin-form or absolute-form (RFC 9112, section 3.2). */
  target: string;
  /** All of the body. @throws BODY_TOO_LARGE beyond `maxBytes`; the rest is not read */
  read(maxBytes: number): Promise<Uint8Array>;
}

export interface NodeReply {
  status: number;
  headers: Readonly<Record<string, string>>;
  /** Not to be sent for HEAD. */
  body: string;
}

/** Answers one path. Never rejects. */
export type NodeHandler = (request: NodeRequest) => Promise<NodeReply>;

/** Whether the node answers this itself. Nothing under the folder is ever an app's. */
export const isNodePath = (target: string): boolean => pathOf(target).startsWith(NODE_FOLDER);

/** As a cache or a router would read it; an app sees whatever this does not claim. */
export function pathOf(target: string): string {
  return target.replace(/^https?:\/\/[^/?#]*/i, '').split(/[?#]/, 1)[0]!;
}

export function refusal(
  status: number,
  code: string,
  message: string,
  headers: Readonly<Record<string, string>> = {},
): NodeReply {
  return reply(status, { code, message }, headers);
}

export function reply(
  status: number,
  value: object,
  headers: Readonly<Record<string, string>> = {},
): NodeReply {
  return textReply(status, 'application/json', JSON.stringify(value), headers);
}

/** @param type the media type of `body` */
export function textReply(
  status: number,
  type: string,
  body: string,
  headers: Readonly<Record<string, string>> = {},
): NodeReply {
  return {
    status,
    headers: {
      'content-type': type,
      'cache-control': 'no-store',
      'x-content-type-options': 'nosniff',
      // It is for everybody, and says nothing about who asks.
      'access-control-allow-origin': '*',
      ...headers,
    },
    body,
  };
}
