/** What keeps an audit from being told less than there is: by endpoints, and by sources of records. */
import { type Mutation, one } from '../mutation.ts';

const head = 'cli/audit/head.test.ts';
const storage = 'cli/audit/storage.test.ts';
const records = 'cli/audit/archives.test.ts';
const checkpoint = 'cli/audit/checkpoint.test.ts';
const AUDIT = 'cli/audit/audit.ts';
const CHECKPOINT = 'cli/audit/checkpoint.ts';
const HEAD = 'cli/audit/head.ts';
const RECORDS = 'cli/audit/archives.ts';
const SOURCES = 'cli/audit/sources.ts';
const published = 'cli/audit/publish.test.ts';

export const auditRules: readonly Mutation[] = [
  one(
    'audit',
    'that the newest head counts, not the oldest',
    [HEAD, 'claim.number > newest.number ? claim : newest', 'claim.number < newest.number ? claim : newest'],
    [head, '^from endpoint 0 on, 1 of three'],
  ),
  one(
    'audit',
    'that every endpoint gets to the newest head',
    [HEAD, 'while (behind.length > 0) {', 'while (behind.length > all.length) {'],
    [head, '^an end that no other endpoint knows'],
  ),
  one(
    'audit',
    'the comparison of what is pending',
    [AUDIT, '  await comparison.withUpcoming();\n', ''],
    [storage, 'hidden by the log, a manifest'],
  ),
  one(
    'audit',
    'the comparison of the whole storage',
    [AUDIT, '  comparison.withStorage();\n', ''],
    [storage, 'hidden by the log, a measurement'],
  ),
  one(
    'audit',
    'that a proof is checked',
    [
      'cli/audit/trie.ts',
      'if (keccak256(encoded) !== expected) throw',
      'if (keccak256(encoded) === "") throw',
    ],
    [storage, '^a proof of another account'],
  ),
  one(
    'audit',
    "that a file's fault is its own",
    [RECORDS, '      this.#fault(error as Error, name);', '      throw error;'],
    [records, 'one file.+is HTTP 500'],
  ),
  one(
    'audit',
    'keeping one file once',
    [RECORDS, 'if (known !== undefined) return hasRoom(known);', ''],
    [records, '^one file under 3,000 names'],
  ),
  one(
    'audit',
    'the bound on versions',
    [RECORDS, 'given >= this.#limits.versions', 'given < 0'],
    [records, '^of 3,000 versions'],
  ),
  one(
    'audit',
    "the bound on a source's bytes",
    [RECORDS, 'this.#idle.bytes >= bytes', 'this.#idle.bytes < 0'],
    [records, 'its share of bytes'],
  ),
  one(
    'audit',
    'that a run of a checkpoint follows the former one',
    [CHECKPOINT, 'if (found.former !== former) throw', "if (found.former === '') throw"],
    [checkpoint, 'of which the first run is another'],
  ),
  one(
    'audit',
    'the hash of a run of a checkpoint over its lines',
    [CHECKPOINT, "if (found.lines !== lines.digest('hex')) throw", "if (found.lines === '') throw"],
    [checkpoint, 'with a verdict of another quote'],
  ),
  one(
    'audit',
    "that a checkpoint's block is on the chain",
    [
      CHECKPOINT,
      '(await chain.block(block)).hash === blockHash',
      '(await chain.block(block)).hash.length > 0',
    ],
    [checkpoint, 'of a chain with none of its blocks'],
  ),
  one(
    'audit',
    'that a checkpoint is not ahead of the chain',
    [CHECKPOINT, 'if (newest.block > head.number) {', 'if (newest.block < 0) {'],
    [checkpoint, 'ahead of what the endpoints show'],
  ),
  one(
    'audit',
    "that a verdict was come to by the contract's policy",
    [
      'cli/audit/evidence-found.ts',
      'verdict.time === time && verdict.policy === policyHash(policy)',
      'verdict.time === time',
    ],
    [checkpoint, 'made whole again with a verdict by another policy'],
  ),
  one(
    'audit',
    'that nothing is built on a history that does not hold',
    ['cli/audit/run.ts', 'historyHolds ? await', 'verdicts !== undefined ? await'],
    [checkpoint, 'on a history that does not hold'],
  ),
  one(
    'audit',
    'that a folder alone proves nothing of a chain',
    [
      SOURCES,
      "'gap', 'CHAIN_NOT_ASKED', where, message);\n  } else if (!sameHex",
      "'warning', 'CHAIN_NOT_ASKED', where, message);\n  } else if (!sameHex",
    ],
    [published, 'is audited without asking anybody'],
  ),
  one(
    'audit',
    "the hash of a published block, by the auditor's own source",
    [SOURCES, 'if (!sameHex(parseHex(tape.blockHash), parseHex(hash))) {', "if (hash === '') {"],
    [published, 'of a block whose hash is another'],
  ),
  one(
    'audit',
    'that a published state is proven under that hash',
    [SOURCES, "!storage.proven || storage.under !== 'block hash'", '!storage.proven'],
    [published, 'does not vouch for the state'],
  ),
  one(
    'audit',
    'that a folder does not say for itself that simulated evidence will do',
    ['cli/commands/audit.ts', 'if (published.flavour !== flavour)', "if (what === '')"],
    [published, 'simulated evidence is accepted by who says so'],
  ),
  one(
    'audit',
    'that a folder is audited by its own chain',
    ['cli/audit/run.ts', 'if (seen === block.hash) return;', "if (seen !== '') return;"],
    [published, 'by another chain, which may have another network'],
  ),
  one(
    'audit',
    'that times which come with logs agree with the headers that are read',
    ['cli/audit/block-times.ts', 'if (said != null && said !== timestamp) this.#isSound = false;', ''],
    [
      'cli/audit/checkpoint.test.ts',
      'are read from the headers where those of the logs are wrong: all an hour',
    ],
  ),
];
