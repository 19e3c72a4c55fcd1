/** One look at a website by the rules of `site verify`: what the commands that need the network's own word of it start with. */
import { randomBytes } from 'node:crypto';
import type { Step } from '../../lib/attestation/trace.ts';
import { fromHex } from '../../lib/protocol/encoding.ts';
import { DstackError } from '../../lib/protocol/errors.ts';
import type { Flavour } from '../../lib/protocol/network-config.ts';
import { type Arguments, narrationOptions, type Option, UsageError } from '../command.ts';
import { flavourOption } from '../flavour.ts';
import { givenCollateral } from '../given-collateral.ts';
import { chainOptions, type NetworkConnection } from '../owner/connection.ts';
import { type Visit, visit } from './fetch.ts';
import { judgeSite } from './judge.ts';

/** Options by which the network is known, and how its website is judged. */
export const lookOptions = {
  network: {
    value: 'ADDRESS',
    help: "the network's contract; else that of network.json",
    env: 'DSTACK_CONTRACT',
  },
  ...chainOptions,
  flavour: flavourOption,
  collateral: {
    value: 'FILE|URL',
    help: 'judge by this collateral.json, or by what this PCS or PCCS has, in place of what the node brings',
  },
  wait: { value: 'SECONDS', help: 'how long a node that is busy is asked again', default: '30' },
  json: { help: 'prints one JSON object' },
  quiet: narrationOptions.quiet,
} satisfies Record<string, Option>;

/** Answers that say nothing about the site but that it could not be judged. */
const UNKNOWN = /^(SITE_(UNREACHABLE|BUSY|NOT_READY)|CLOCK_DISAGREES|(CHAIN|RPC|PCS|HTTP)_\w+)$/;

export interface Look {
  readonly verdict: 'accept' | 'reject' | 'unknown';
  readonly code: string | null;
  readonly message: string;
  readonly steps: readonly Step[];
  /** Of the platform's TCB, by Intel's rules; null unless accepted. */
  readonly status: string | null;
  readonly visit: Visit | undefined;
}

/** One visit and its verdict; what is wrong with evidence is an answer, what is wrong with the call is thrown. */
export async function lookAt(
  site: URL,
  { chainId, contract, reader }: NetworkConnection,
  flavour: Flavour,
  args: Arguments,
): Promise<Look> {
  const steps: Step[] = [];
  const waitMs = waitOf(args);
  let seen: Visit | undefined;
  try {
    const fresh = await visit(site, () => new Uint8Array(randomBytes(32)), waitMs);
    seen = fresh;
    const { evidence, publicKey, nonce } = fresh;
    const collateral = await givenCollateral(args, fromHex(evidence.quote));
    const network = { chainId, contract };
    const question = { evidence, network, reader, flavour, publicKey, nonce, collateral };
    const status = await judgeSite(question, (step) => void steps.push(step));
    const message = `the network ${contract} ends the TLS of ${site.host}`;
    return { verdict: 'accept', code: null, message, steps, status, visit: seen };
  } catch (error) {
    if (!(error instanceof DstackError) || error instanceof UsageError) throw error;
    const { code, message } = error;
    const verdict = UNKNOWN.test(code) ? 'unknown' : 'reject';
    return { verdict, code, message, steps, status: null, visit: seen };
  }
}

/** Milliseconds. To be called before anybody is asked, too. @throws USAGE */
export const waitOf = (args: Arguments): number => wholeNumber('wait', args.text('wait')) * 1000;

/** @throws USAGE */
export function wholeNumber(name: string, text: string): number {
  if (!/^\d{1,15}$/.test(text)) throw new UsageError(`--${name} takes a whole number, not ${text}`);
  return Number(text);
}
