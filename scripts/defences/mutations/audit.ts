/** What keeps an audit from being told less than there is: by endpoints, and by sources of records. */
import { type Mutation, one } from '../mutation.ts';

const head = 'cli/audit/head.test.ts';
const storage = 'cli/audit/storage.test.ts';
const records = 'cli/audit/archives.test.ts';
const AUDIT = 'cli/audit/audit.ts';
const HEAD = 'cli/audit/head.ts';
const RECORDS = 'cli/audit/archives.ts';

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
];
