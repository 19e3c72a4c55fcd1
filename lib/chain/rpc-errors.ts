/**
 * What an endpoint's refusal means. JSON-RPC fixes neither codes nor wording (EIP-1474 was never followed), so what an
 * endpoint says is free text, and the same code means different things at different providers. Only this file reads that
 * text. The order matters: the first matching row decides. What matches none is `unknown`, and is shown to the operator in
 * the endpoint's own words.
 *
 * testdata/rpc/wordings.json has what clients and providers really say, and where each was seen.
 */
import { printable } from '../protocol/printable.ts';

export type RpcErrorKind =
  /** As a transaction the call would fail: a contract refused it. */
  | 'reverted'
  /** The endpoint gets too many requests; this says nothing about the call. */
  | 'rate-limited'
  /** The answer would be too large, or take too long: ask for less. */
  | 'too-much'
  /** The endpoint does not have that block or state, not yet or no longer. */
  | 'behind'
  | 'no-method'
  /** The endpoint already has exactly this transaction. */
  | 'already-known'
  | 'nonce-too-low'
  | 'nonce-too-high'
  /** Another transaction has this nonce, and this one does not raise the fee enough. */
  | 'replacement-underpriced'
  | 'fee-too-low'
  /** The endpoint's operator does not allow a transaction to cost this much. */
  | 'fee-too-high'
  /** The transaction's gas limit is below what it needs. */
  | 'gas-too-low'
  /** The pool has no room for more transactions at the moment. */
  | 'pool-full'
  | 'no-funds'
  /** The chain does not accept transactions of this type. */
  | 'type-unsupported'
  | 'unknown';

/** An error as an endpoint gave it. */
export interface RpcErrorSaid {
  code: number | undefined;
  message: string;
  data: unknown;
}

interface Row {
  /** A function where numbers in the wording decide. */
  kind: RpcErrorKind | ((match: RegExpExecArray) => RpcErrorKind);
  words?: RegExp;
  codes?: readonly number[];
  /** Absent: any method. */
  of?: readonly string[];
}

const LOGS = ['eth_getLogs'];
const RUNS = ['eth_call', 'eth_estimateGas'];
const SENDS = ['eth_sendRawTransaction'];

const TABLE: readonly Row[] = [
  // A contract's own words must not be mistaken for the endpoint's.
  { kind: 'reverted', of: RUNS, words: /\breverted\b|^revert\b|\bvm (execution error|exception)\b/i },
  {
    kind: 'reverted',
    of: RUNS,
    words: /(failed|be completed) due to an exception|invalid opcode|out of gas/i,
  },
  // As much gas as an account without money can pay for; else as much as a block or the endpoint gives, and it fails with that.
  { kind: 'no-funds', of: RUNS, words: /gas required exceeds allowance \(0\)/i },
  { kind: 'reverted', of: RUNS, words: /gas required exceeds allowance/i },
  {
    kind: 'behind',
    words: /header not found|unknown block|missing trie node|block not (yet )?(found|imported)/i,
  },
  { kind: 'behind', of: LOGS, words: /blocks? specified in filter .*cannot be found/i },
  {
    kind: 'behind',
    words:
      /beyond (the )?current head|historical state|block is not available|world state unavailable|sync is still in progress/i,
  },
  {
    kind: 'rate-limited',
    words: /\brate.?limit|too many requests|throttl|compute units|capacity (limit )?exceeded/i,
  },
  {
    kind: 'rate-limited',
    words: /request rate|rate exceeded|request(s| count)? (limit|exceeded)|credits? limited/i,
  },
  {
    kind: 'rate-limited',
    words: /(requests|calls) per (second|minute|day)|exceeded (the |your )?(request|quota)/i,
  },
  { kind: 'rate-limited', words: /quota (exceeded|reached)|concurrent requests/i },
  {
    kind: 'too-much',
    of: LOGS,
    words: /\branges?\b.*(limit|exceed|too|max|great|larg|big|long|wide|narrow|not supported)/i,
  },
  {
    kind: 'too-much',
    of: LOGS,
    words: /(limit|exceed|too|max|great|larg|big|long|wide|up to).*\branges?\b/i,
  },
  {
    kind: 'too-much',
    of: LOGS,
    words: /too many|more than \d+|limited to|max(imum)? (results|logs|\[from)|exceeds (the )?limit/i,
  },
  {
    kind: 'too-much',
    of: LOGS,
    words: /response (size|is too|too|exceed)|(too|result set) large|limit exceeded/i,
  },
  { kind: 'too-much', of: LOGS, words: /time.?out|timed out|deadline exceeded|took too long/i },
  { kind: 'rate-limited', words: /limit exceeded/i },
  {
    kind: 'type-unsupported',
    words: /(unsupported|invalid|unknown) (transaction|tx) type|unsupportedtxtype|notsupportedtxtype/i,
  },
  {
    kind: 'type-unsupported',
    words:
      /(transaction|tx) type (is )?(not|un)[ -]?(supported|enabled)|eip-?1559.*not (supported|enabled|active)/i,
  },
  {
    kind: 'replacement-underpriced',
    words: /replac\w+ .*(underpriced|existing tx|fee)|replacementnotallowed|feetoolowtoreplace/i,
  },
  { kind: 'replacement-underpriced', words: /another (tx|transaction) (which has|with) (the )?same nonce/i },
  {
    kind: 'already-known',
    of: SENDS,
    words: /\balready ?(known|imported)\b|^(?:.*: ?)?known transaction\b/i,
  },
  {
    kind: 'already-known',
    of: SENDS,
    words: /same hash was already imported|transaction already in mempool|tx already exists/i,
  },
  {
    kind: ([, got, expected]) => (Number(got) > Number(expected) ? 'nonce-too-high' : 'nonce-too-low'),
    words: /invalid nonce; got (\d{1,16}), expected (\d{1,16})/i,
  },
  // A full pool does not drop a transaction that can be mined for one that has to wait for its turn.
  { kind: 'nonce-too-high', of: SENDS, words: /future transaction tries to replace pending/i },
  {
    kind: 'nonce-too-low',
    words: /nonce (is )?too low|\boldnonce\b|nonce below|lower than the current nonce/i,
  },
  {
    kind: 'nonce-too-high',
    words: /nonce (is )?too high|\bnoncegap\b|nonce gap|nonce (is )?too (distant|far)|noncetoofarinfuture/i,
  },
  {
    kind: 'no-funds',
    words: /insufficient ?(funds|balance)|upfront cost exceeds|not enough funds|cause overdraft/i,
  },
  {
    kind: 'fee-too-low',
    words:
      /transaction underpriced|\bfeetoolow|(gas )?(price|fee)( per gas)?( is)? (too low|below|less than)/i,
  },
  { kind: 'fee-too-high', of: SENDS, words: /fee .*exceeds the configured cap|fee cap exceeded/i },
  { kind: 'gas-too-low', words: /intrinsic gas (is )?too low/i },
  { kind: 'pool-full', of: SENDS, words: /(tx|transaction) ?pool is full/i },
  { kind: 'no-method', codes: [-32601] },
  {
    kind: 'no-method',
    words: /method .*(not (found|supported|available|allowed)|does not exist)|unsupported method/i,
  },
  // Codes come last, and only where no other use of them is known: for Besu, -32005 and -32007 are about a transaction.
  // 3: Geth; -32015: Parity, Nethermind.
  { kind: 'reverted', of: RUNS, codes: [3, -32015] },
  { kind: 'too-much', of: LOGS, codes: [-32005, -32614] },
  { kind: 'rate-limited', codes: [429, -32029] },
];

/** Characters of an error's message that are read; the rest is ignored. */
const MAX_WORDS = 1000;

export function rpcErrorKind(method: string, said: RpcErrorSaid): RpcErrorKind {
  const words = [said.message, ...wordsIn(said.data)].join(' ; ').slice(0, MAX_WORDS);
  for (const { kind, of, codes, words: pattern } of TABLE) {
    if (of !== undefined && !of.includes(method)) continue;
    if (codes !== undefined && !codes.includes(said.code ?? Number.NaN)) continue;
    const match = (pattern ?? ANYTHING).exec(words);
    if (match !== null) return typeof kind === 'function' ? kind(match) : kind;
  }
  return 'unknown';
}
const ANYTHING = /(?:)/;

/** Some endpoints say `invalid params`, and put what they mean into the data. */
function wordsIn(data: unknown): string[] {
  const texts =
    typeof data === 'object' && data !== null
      ? ['message', 'reason', 'payload', 'details'].map((field) => (data as Record<string, unknown>)[field])
      : [data];
  return texts.filter((text): text is string => typeof text === 'string' && !/^(0x)?[0-9a-f]*$/i.test(text));
}

/** More than any of our contracts reverts with. Hex digits. */
const MAX_REVERT_DIGITS = 8192;
/** Where clients, and proxies in front of them, put an error that they pass on. */
const INNER = ['data', 'originalError', 'error', 'result'];

/**
 * What a contract reverted with, as 0x-hex; undefined when there is nothing. It is the error's data, or a few levels inside
 * it, with or without 0x, or after the word `Reverted`.
 */
export function revertDataIn(said: RpcErrorSaid): string | undefined {
  return hexIn(said.data, 4) ?? afterReverted(said.message);
}

function hexIn(data: unknown, levels: number): string | undefined {
  if (typeof data === 'string') {
    const [, digits] = /^(?:0x|(?=[0-9a-f]{8}))((?:[0-9a-f]{2})*)$/i.exec(data.trim()) ?? [];
    if (digits === undefined) return afterReverted(data);
    return digits.length > MAX_REVERT_DIGITS ? undefined : `0x${digits.toLowerCase()}`;
  }
  if (typeof data !== 'object' || data === null || levels === 0) return undefined;
  for (const field of INNER) {
    const found = hexIn((data as Record<string, unknown>)[field], levels - 1);
    if (found !== undefined) return found;
  }
  return undefined;
}

function afterReverted(text: string): string | undefined {
  const [, digits] = /\brevert(?:ed)?:? 0x((?:[0-9a-f]{2})*)$/i.exec(text.trim()) ?? [];
  return digits === undefined || digits.length > MAX_REVERT_DIGITS ? undefined : `0x${digits.toLowerCase()}`;
}

/** Text from outside, made fit for a log, a terminal and a status page. */
export function shown(text: string, maxLength = 300): string {
  const clean = printable(text.slice(0, maxLength)).trim();
  return clean.length <= maxLength ? clean : `${clean.slice(0, maxLength - 3)}...`;
}
