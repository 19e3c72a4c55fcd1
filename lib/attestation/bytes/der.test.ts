/**
 * The own DER reader against node-forge's, over every certificate and CRL of the published vectors and of the simulated
 * platform: where both read, they read the same; and ours reads nothing that the other refuses.
 */
import fc from 'fast-check';
import forge from 'node-forge';
import { expect, test } from 'vitest';
import { AttestationError } from '../errors.ts';
import { parseQuote } from '../quote/quote.ts';
import { simulatedCollateral } from '../simulated/collateral.ts';
import { PUBLISHED_QUOTES, readPublishedCollateral, readPublishedQuote, simulatedCase } from '../testing.ts';
import { type DerValue, readChildren, readDer, TAG } from './der.ts';
import { decodePem, splitPemChain } from './pem.ts';

/** A tree of [tag, content as hex | children]. */
type Tree = [tag: number, content: string | Tree[]];

/** Constructed values, and OCTET STRINGs never: those are opened by who knows what is in them. */
function ours(value: DerValue): Tree {
  const constructed = (value.tag & 0x20) !== 0;
  return [
    value.tag,
    constructed ? readChildren(value).map(ours) : Buffer.from(value.content).toString('hex'),
  ];
}

function theirs(value: forge.asn1.Asn1): Tree {
  const tag = value.tagClass | (value.constructed ? 0x20 : 0) | value.type;
  const content = value.value;
  return [
    tag,
    typeof content === 'string' ? Buffer.from(content, 'latin1').toString('hex') : content.map(theirs),
  ];
}

function hasBmpString([tag, content]: Tree): boolean {
  return (tag & 0x1f) === 30 || (typeof content !== 'string' && content.some(hasBmpString));
}

function readTheirs(der: Uint8Array): Tree {
  const bytes = forge.util.createBuffer(Buffer.from(der).toString('latin1'));
  // Without this it opens BIT STRINGs that look like DER.
  const options = { strict: true, parseAllBytes: true, decodeBitStrings: false };
  return theirs(forge.asn1.fromDer(bytes, options as never));
}

function allDer(): Uint8Array[] {
  const chains = new Set<string>();
  const lists = new Set<string>();
  const collaterals = PUBLISHED_QUOTES.flatMap(({ collateral }) => collateral.map(readPublishedCollateral));
  for (const collateral of [...collaterals, simulatedCollateral()]) {
    chains.add(collateral.pck_crl_issuer_chain).add(collateral.tcb_info_issuer_chain);
    lists.add(collateral.root_ca_crl).add(collateral.pck_crl);
  }
  for (const bytes of [...PUBLISHED_QUOTES.map(readPublishedQuote), simulatedCase().quote]) {
    const { type, data } = parseQuote(bytes).certification;
    if (type === 5) chains.add(Buffer.from(data).toString('latin1'));
  }
  const blocks = new Set([...chains].flatMap((chain) => splitPemChain(chain, 'PCK_CHAIN')));
  return [
    ...[...blocks].map((block) => decodePem(block, 'PCK_CHAIN')),
    ...[...lists].map((hex) => new Uint8Array(Buffer.from(hex, 'hex'))),
  ];
}

const samples = allDer();

test('every certificate and CRL reads the same', () => {
  expect(samples.length).toBeGreaterThan(60);
  for (const der of samples) expect(ours(readDer(der, TAG.sequence))).toEqual(readTheirs(der));
});

test('what ours reads of changed bytes, node-forge reads too, and the same', () => {
  const changes = fc.array(fc.tuple(fc.nat(4000), fc.nat(255)), { minLength: 1, maxLength: 3 });
  fc.assert(
    fc.property(fc.nat(samples.length - 1), changes, (index, list) => {
      const der = samples[index]!.slice(0, 4000);
      for (const [offset, value] of list) der[offset % der.length] = value;
      let tree: Tree;
      try {
        tree = ours(readDer(der, TAG.sequence));
      } catch (error) {
        expect(error).toBeInstanceOf(AttestationError);
        return;
      }
      // node-forge decodes BMPStrings while reading, of any tag class: what it says of those is not comparable.
      if (!hasBmpString(tree)) expect(readTheirs(der)).toEqual(tree);
    }),
    { numRuns: 3_000 },
  );
});
