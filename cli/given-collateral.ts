/** `--collateral` of commands that judge a quote which came from elsewhere. */
import { pcsSource } from '../host/collateral/pcs.ts';
import {
  type Collateral,
  MAX_COLLATERAL_CHARACTERS,
  parseCollateral,
} from '../lib/attestation/collateral/collateral.ts';
import { platformKindOf } from '../lib/attestation/quote/platform-kind.ts';
import { parseQuote } from '../lib/attestation/quote/quote.ts';
import { readBounded } from '../lib/daemon/bounded-file.ts';
import type { Arguments } from './command.ts';
import { urlOf } from './site/arguments.ts';

/**
 * What a file holds, or a PCS or PCCS has for the platform of this quote; undefined without the option.
 * @throws USAGE, FILE_KIND, FILE_TOO_LARGE, the file system's own errors, PCS_*, HTTP_*, the codes of lib/attestation
 */
export async function givenCollateral(args: Arguments, quote: Uint8Array): Promise<Collateral | undefined> {
  const given = args.optional('collateral');
  if (given === undefined) return undefined;
  if (/^https?:\/\//.test(given))
    return pcsSource({ url: urlOf('collateral', given).href }).find(platformKindOf(parseQuote(quote)));
  return parseCollateral(readBounded(given, { maxBytes: MAX_COLLATERAL_CHARACTERS, pipes: true }).toString());
}
