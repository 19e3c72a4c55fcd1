/**
 * What is not signed on this machine: a multisig's transaction, written down for those who sign it. As text, as JSON, or as a file
 * of Safe's Transaction Builder, which collects several.
 */
import { existsSync } from 'node:fs';
import { keccak256, toUtf8Bytes } from 'ethers';
import { type Static, Type } from 'typebox';
import { networkInterface } from '../../contracts/interface.ts';
import { writeDurably } from '../../lib/daemon/durable-file.ts';
import { print, printError, printJson } from '../../lib/daemon/terminal.ts';
import { DstackError } from '../../lib/protocol/errors.ts';
import { type Address, parseAddress, sameAddress } from '../../lib/protocol/hex.ts';
import { Address0x, parseJson } from '../../lib/protocol/schema.ts';
import { type Arguments, type Option, UsageError } from '../command.ts';
import { readGiven } from './connection.ts';
import { decodedCall, describeHandedOver } from './describe.ts';

export const handOverOptions = {
  unsigned: { help: 'sign nothing: print what the owner has to send, and its meaning' },
  format: {
    value: 'text|json|safe',
    help: "--unsigned, so written: safe is a file for Safe's Transaction Builder",
  },
  out: {
    value: 'FILE',
    help: 'where --unsigned writes it; a Safe file that is there already gets it as a further transaction',
  },
} satisfies Record<string, Option>;

const FORMATS = ['text', 'json', 'safe'] as const;

/** @throws USAGE */
export function isHandedOver(args: Arguments): boolean {
  const format = args.optional('format');
  if (format !== undefined && !FORMATS.some((known) => known === format)) {
    throw new UsageError(`--format takes ${FORMATS.join(', ')}, not ${format}`);
  }
  const isSo = args.flag('unsigned') || format !== undefined;
  if (args.optional('out') !== undefined && !isSo) {
    throw new UsageError('--out is for what is not signed here: give --unsigned or --format too');
  }
  return isSo;
}

export interface Transfer {
  readonly chainId: number;
  readonly from: Address;
  readonly to: Address;
  readonly data: string;
  readonly effect: readonly string[];
  readonly isOurCode: boolean;
}

/** Prints it, or writes it to `--out`. @throws SAFE_FILE, OUT_EXISTS; FILE */
export async function handOver(args: Arguments, transfer: Transfer): Promise<void> {
  const { from, to, data, effect, chainId } = transfer;
  const format = args.optional('format') ?? (args.flag('json') ? 'json' : 'text');
  const out = args.optional('out');
  const lines = describeHandedOver(to, data, transfer);
  // A batch is added to; what else is there may be anything, a key too.
  if (format !== 'safe' && out !== undefined && existsSync(out))
    throw new DstackError('OUT_EXISTS', `${out} is there already, and is kept: name another file by --out`);
  if (format === 'text') {
    if (out === undefined) print(...lines);
    else writeDurably(out, toUtf8Bytes(`${lines.join('\n')}\n`));
    return;
  }
  const before = format === 'safe' && out !== undefined && existsSync(out) ? earlier(out, transfer) : [];
  const others = before.map(
    ({ data: other }) => `  with it   ${describedIn(other)}, which is in ${out} already`,
  );
  if (!args.flag('quiet')) printError(...lines, ...others);
  const value =
    format === 'safe'
      ? safeFile(transfer, before, Date.now())
      : { chainId, from, to, value: '0', data, decoded: decodedCall(data), effect, sent: null };
  if (out === undefined) printJson(value, 2);
  else writeDurably(out, toUtf8Bytes(`${JSON.stringify(value, null, 2)}\n`));
}

const SafeTransaction = Type.Object({
  to: Address0x,
  value: Type.Literal('0'),
  data: Type.String({ pattern: '^0x([0-9a-f]{2})+$', maxLength: 65_536 }),
  contractMethod: Type.Unknown(),
  contractInputsValues: Type.Unknown(),
});
const SafeFile = Type.Object({
  version: Type.Literal('1.0'),
  chainId: Type.String({ maxLength: 20 }),
  createdAt: Type.Number(),
  meta: Type.Object({
    name: Type.String(),
    description: Type.String(),
    txBuilderVersion: Type.String(),
    createdFromSafeAddress: Address0x,
    createdFromOwnerAddress: Type.String(),
    checksum: Type.String(),
  }),
  transactions: Type.Array(SafeTransaction, { maxItems: 100 }),
});
type SafeFile = Static<typeof SafeFile>;
const SAFE_MAX_BYTES = 4 * 1024 * 1024;

/** A batch as the Transaction Builder imports it: the bytes that were shown, and the call that they are. */
export function safeFile(
  { chainId, from, to, data }: Transfer,
  before: SafeFile['transactions'],
  createdAt: number,
): SafeFile {
  const { fragment, args } = networkInterface.parseTransaction({ data })!;
  const inputs = fragment.inputs.map(({ name, type }) => ({ internalType: type, name, type }));
  const values = fragment.inputs.map(({ name }, at) => [name, String(args[at] as unknown)]);
  const transaction = {
    to,
    value: '0' as const,
    data,
    contractMethod: { inputs, name: fragment.name, payable: false },
    contractInputsValues: Object.fromEntries(values) as Record<string, string>,
  };
  const transactions = [...before, transaction];
  const file = {
    version: '1.0' as const,
    chainId: String(chainId),
    createdAt,
    meta: {
      name: 'Dstack network',
      description: transactions.map((one) => describedIn(one.data)).join('; '),
      txBuilderVersion: '1.16.5',
      createdFromSafeAddress: from,
      createdFromOwnerAddress: '',
    },
    transactions,
  };
  return { ...file, meta: { ...file.meta, checksum: safeChecksum(file) } };
}

const describedIn = (data: string): string => {
  const { function: name, arguments: values } = decodedCall(data);
  return `${name} ${values.map(({ value }) => value).join(', ')}`;
};

/**
 * The transactions of a batch that this one joins. What was changed without the Transaction Builder's checksum is refused; anyone can
 * compute that, so what is in the batch is shown once more.
 * @throws SAFE_FILE
 */
function earlier(file: string, { chainId, from, to }: Transfer): SafeFile['transactions'] {
  const text = readGiven('--out', file).toString('utf8');
  const found = parseJson(SafeFile, text, 'SAFE_FILE', file, SAFE_MAX_BYTES);
  const { checksum, ...meta } = found.meta;
  const refusal =
    found.chainId !== String(chainId) || !sameAddress(parseAddress(meta.createdFromSafeAddress), from)
      ? `it is for ${meta.createdFromSafeAddress} on chain ${found.chainId}, and this for ${from} on chain ${chainId}`
      : safeChecksum({ ...found, meta }) !== checksum
        ? 'it was changed since it was written'
        : found.transactions.some((one) => !sameAddress(parseAddress(one.to), to))
          ? "it holds a transaction that is not this network's"
          : undefined;
  if (refusal === undefined) return found.transactions;
  throw new DstackError('SAFE_FILE', `${file} does not take this transaction: ${refusal}`);
}

/** As the Transaction Builder computes it, over everything but the batch's name. */
export function safeChecksum(file: { readonly meta: object }): string {
  return keccak256(toUtf8Bytes(serialised({ ...file, meta: { ...file.meta, name: null } })));
}

function serialised(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(serialised).join(',')}]`;
  if (typeof value !== 'object' || value === null) return JSON.stringify(value ?? null);
  const keys = Object.keys(value).sort();
  const parts = keys.map((key) => `${serialised((value as Record<string, unknown>)[key])},`);
  return `{${JSON.stringify(keys)}${parts.join('')}}`;
}
