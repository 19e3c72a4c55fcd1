/**
 * Which files another relay's archive has that belong into this one: what is about a request that the contract shows as answered, a bootstrap package by the
 * network's key, and a network.json that the owner allowed or that one of those names. So what a relay may fill this archive with, the chain bounds. A file is what its name says, by its own content, and as good as
 * what gossip would have brought.
 */
import { toHex } from '../../lib/protocol/encoding.ts';
import { DstackError } from '../../lib/protocol/errors.ts';
import { type Address, type Hex, parseHex, sameAddress } from '../../lib/protocol/hex.ts';
import { CONFIG_MAX_BYTES, configHash } from '../../lib/protocol/network-config.ts';
import {
  type AnswerMessage,
  AnswerMessageSchema,
  type BootstrapPackage,
  BootstrapPackageSchema,
  MESSAGE_MAX_BYTES,
  type RequestMessage,
  RequestMessageSchema,
} from '../../lib/protocol/onboarding-messages.ts';
import { parseJson } from '../../lib/protocol/schema.ts';
import {
  checkAnswerSignature,
  checkBootstrapSignature,
  checkNetwork,
  checkRequestSignature,
} from './admission.ts';
import { type Archive, nameOf } from './archive.ts';
import { withCheckedEvidence } from './evidence.ts';
import { isHashOnChain, type Network } from './network.ts';

/** A file as JSON with its spaces has more bytes than its message. */
export const ITEM_MAX_BYTES = 2 * MESSAGE_MAX_BYTES;

/** What a name says. `bootstrap-<key>.json`, the newest of several, is none: its versions are. */
export type NamedItem =
  | { readonly kind: 'request' | 'answer'; readonly name: string; readonly subject: Hex }
  | { readonly kind: 'bootstrap'; readonly name: string; readonly key: Address }
  | { readonly kind: 'config'; readonly name: string; readonly config: Hex };

const NAME = /^(?:(request|answer)-([0-9a-f]{64})|bootstrap-(0x[0-9a-f]{40}))-[0-9a-f]{16}\.json$/;
const CONFIG_NAME = /^config-([0-9a-f]{64})\.json$/;

/** Undefined for what is never taken. */
export function itemNamed(name: string): NamedItem | undefined {
  const config = CONFIG_NAME.exec(name)?.[1];
  if (config !== undefined) return { kind: 'config', name, config: parseHex(config) };
  const [, kind, subject, key] = NAME.exec(name) ?? [];
  if (kind !== undefined) return { kind: kind as 'request' | 'answer', name, subject: parseHex(subject!) };
  return key === undefined ? undefined : { kind: 'bootstrap', name, key: key as Address };
}

/** All versions of one thing begin with this. */
export const versionsOf = ({ name }: NamedItem): string => name.replace(/[0-9a-f]{16}\.json$/, '');

type Chain = Pick<Network, 'domain' | 'recent' | 'request' | 'isConfigAllowed'>;

/** Whether the chain, or what is archived of it, names this. @throws RPC_* */
export async function isNamedByChain(
  item: NamedItem,
  chain: Chain,
  isConfigNamed: (config: string) => Promise<boolean>,
): Promise<boolean> {
  switch (item.kind) {
    case 'request':
    case 'answer':
      return (await chain.request(item.subject)).state === 'answered';
    case 'bootstrap':
      return sameAddress(item.key, (await chain.recent()).view.networkKey);
    case 'config':
      return (await chain.isConfigAllowed(item.config)) || (await isConfigNamed(item.config));
  }
}

/**
 * Keeps the file, once it was found to be what its name says.
 * @throws ARCHIVE_ITEM for what is not; what admission refuses the message with; RPC_*
 */
export async function keepItem(
  item: NamedItem,
  bytes: Uint8Array,
  chain: Chain,
  archive: Pick<Archive, 'keep' | 'keepConfig'>,
): Promise<void> {
  if (item.kind === 'config') {
    if (bytes.length > CONFIG_MAX_BYTES || toHex(configHash(bytes)) !== item.config) throw another(item);
    archive.keepConfig(bytes);
    return;
  }
  const message = messageIn(item, bytes);
  if (nameOf(message) !== item.name) throw another(item);
  checkNetwork(chain.domain, message);
  await checkMessage(message, chain);
  archive.keep(message);
}

function messageIn({ kind, name }: NamedItem, bytes: Uint8Array) {
  const text = new TextDecoder().decode(bytes);
  const schema = SCHEMAS[kind as keyof typeof SCHEMAS];
  return parseJson<(typeof SCHEMAS)[keyof typeof SCHEMAS]>(
    schema,
    text,
    'ARCHIVE_ITEM',
    name,
    ITEM_MAX_BYTES,
  );
}

const SCHEMAS = {
  request: RequestMessageSchema,
  answer: AnswerMessageSchema,
  bootstrap: BootstrapPackageSchema,
} as const;

async function checkMessage(
  message: RequestMessage | AnswerMessage | BootstrapPackage,
  chain: Chain,
): Promise<void> {
  const { domain } = chain;
  if (message.type === 'request') {
    checkRequestSignature(domain, message);
    if (withCheckedEvidence(message) !== message)
      throw new DstackError('ARCHIVE_ITEM', 'nobody could judge the quote by the collateral of this request');
    return;
  }
  if (message.type === 'bootstrap') return checkBootstrapSignature(domain, message);
  const onChain = await chain.request(message.requestHash);
  if (!isHashOnChain(message.answerHash, onChain))
    throw new DstackError('ARCHIVE_ITEM', 'the contract shows another answer to this request');
  const { view } = await chain.recent();
  // The network's keys of former epochs are in events only: an audit reads those.
  if (onChain.epoch === view.epoch) checkAnswerSignature(domain, message, view.networkKey);
}

const another = ({ name }: NamedItem): DstackError =>
  new DstackError('ARCHIVE_ITEM', `what came as ${name} is something else: ask another relay`);
