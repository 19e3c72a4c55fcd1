/**
 * Whether the host of the node that answered could have a certificate for this website made out to itself, in plain words: the evidence's
 * `hostImpersonable` (docs/site-certificates.md), and what a visitor or the website's owner can do about it.
 */
import type { Evidence } from './evidence.ts';

export interface HostDoubt {
  /** `unsaid` where the evidence is wrong: what it says then counts for nothing. */
  readonly state: 'possible' | 'forbidden' | 'unsaid';
  readonly said: string;
  /** What to do, each a sentence. */
  readonly advice: readonly string[];
}

/** By the codes of `caa` in site.json: what the website's owner has to do. */
const FOR_OWNER: Readonly<Record<string, string>> = {
  CAA_UNKNOWN: 'the node has not looked at the DNS lately: ask again in a minute.',
  CAA_POLICY:
    'the node has no account at a certificate authority: name one in network.json (site.acme), and give the node some minutes.',
  CAA_RESOLVERS:
    'network.json names no resolvers: name two or more of different operators (site.resolvers), or no node can look.',
  DNS_QUORUM:
    'too few of the resolvers in network.json answered the node. Its host can keep them away: compare with another node.',
};
const SET_RECORDS =
  'set the CAA records in the DNS that the command below prints, for every name of the website.';

const FOR_VISITORS =
  'If you visit: a padlock alone does not show that your connection ends in the node. Compare the SHA-256 of the public key in your browser’s certificate with the key that npx dstack site verify --json prints, or look for foreign certificates by npx dstack site audit.';

/** @param holds whether every step of `check` did: only then are these the node's words. @param status site.json as it came, signed by nobody */
export function hostDoubt(evidence: Evidence, holds: boolean, status: unknown): HostDoubt {
  if (!holds)
    return {
      state: 'unsaid',
      said: 'Not known: the evidence is wrong, so nothing in it counts.',
      advice: [FOR_VISITORS],
    };
  // Whatever is not the word "no" is a yes.
  if (evidence.hostImpersonable === false)
    return {
      state: 'forbidden',
      said: 'No, as the node sees it: by two resolvers, the DNS leaves certificates for this network’s names to the network’s own account.',
      advice: [
        'This holds for certificates of now on. Those that were issued before the records were set are found by npx dstack site audit.',
      ],
    };
  return {
    state: 'possible',
    said: 'Yes, as far as the node knows: nothing in the DNS keeps who runs its machine, or stands on the way to it, from having a certificate for this website and reading along.',
    advice: [FOR_VISITORS, `If the website is yours: ${FOR_OWNER[codeOf(status)] ?? SET_RECORDS}`],
  };
}

/** Nobody signed the status, and it only chooses between our own sentences. */
function codeOf(status: unknown): string {
  const code = (status as { caa?: { code?: unknown } } | null | undefined)?.caa?.code;
  return typeof code === 'string' && Object.hasOwn(FOR_OWNER, code) ? code : '';
}
