/**
 * A store that has reached its quota refuses every write, a compaction's too, for that is noted in a key. So the store makes room itself:
 * the history of all gives way, as far as the ledger is on the disk, and what remains is what the keys are now.
 */
import { AlarmRequest_AlarmAction, AlarmType, Maintenance } from '../../../lib/etcd/gen/maintenance_pb.js';
import type { Upstream } from '../types.ts';
import type { Floors } from './floors.ts';

/** Of the database, that has to be free for its defragmentation to be worth it. etcd does nothing else meanwhile. */
const WORTH_IT = 0.1;

/** Makes room if the store is full and history takes some of it. Whether it takes writes again. @throws RpcError when etcd is away */
export async function makeRoom(upstream: Upstream, floors: Floors): Promise<boolean> {
  const { method } = Maintenance;
  const { alarms } = await upstream.unary(method.alarm, {});
  const full = alarms.filter(({ alarm }) => alarm === AlarmType.NOSPACE);
  if (full.length === 0) return false;
  await floors.dropHistory();
  const { dbSize, dbSizeInUse } = await upstream.unary(method.status, {});
  if (Number(dbSize - dbSizeInUse) < Number(dbSize) * WORTH_IT) return false;
  await upstream.unary(method.defragment, {});
  for (const { memberID, alarm } of full)
    await upstream.unary(method.alarm, { action: AlarmRequest_AlarmAction.DEACTIVATE, memberID, alarm });
  return true;
}
