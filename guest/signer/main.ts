/**
 * The signer's daemon in a VM: it follows what kubernethes read in the contract, has its keys from the replicator and its records in the
 * node's store, and dials the validators that the host names. `--root DIR` puts every path below DIR, for tests without a VM. Start reading
 * at duty.ts.
 */
import { mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { pino } from 'pino';
import { groupId } from '../../lib/daemon/groups.ts';
import { serveUnix } from '../../lib/daemon/unix-http.ts';
import { EtcdClient } from '../../lib/etcd/client.ts';
import { parseHostHints } from '../../lib/protocol/network-config.ts';
import { sockets } from '../../lib/protocol/sockets.ts';
import { groupOfSocket } from '../daemons.ts';
import { Duty } from './duty.ts';
import { EtcdRecords } from './records.ts';
import { siblingsAt } from './siblings.ts';

/** Between two looks at what the contract wants. Milliseconds. */
const EVERY = 1_000;
/** In the signer's namespace there is nobody else. */
const PREFIX = 'signer/';

const { values: flags } = parseArgs({ options: { root: { type: 'string', default: '/' } } });
const log = pino({ name: 'signer' });
const at = (path: string): string => join(flags.root, path);

const { validators = [] } = parseHostHints(readFileSync(at('run/dstack/host.json')));
const duty = new Duty({
  siblings: siblingsAt(flags.root),
  openStore() {
    const client = new EtcdClient({
      endpoints: [`unix://${at(join('run/dstack', sockets.kvForSigner))}`],
    });
    return { client, records: new EtcdRecords(client, PREFIX) };
  },
  validators,
  log,
});

mkdirSync(at('run/dstack/signer'), { recursive: true });
const group = groupOfSocket(sockets.signerForReplicator);
await serveUnix({
  path: at(join('run/dstack', sockets.signerForReplicator)),
  gid: group === undefined ? undefined : groupId(flags.root, group),
  routes: { 'GET /v1/status': () => duty.status() },
});
log.info({ validators: validators.length }, 'the signer follows the contract');
for (;;) {
  await duty.step();
  await sleep(EVERY);
}
