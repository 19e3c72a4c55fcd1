/**
 * etcd3 1.1.2 as an app uses it, the package as it is on npm: the first argument is the store's address, the second `bare` where it is etcd
 * itself. Prints one line of JSON: what came of each part.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { Etcd3, EtcdPermissionDeniedError, Role } from 'etcd3';

const hosts = process.argv[2];
const client = new Etcd3({ hosts });

const parts = {
  async kv() {
    await client.put('kv/a').value('one');
    await client.put('kv/b').value('2');
    const previous = await client.put('kv/a').value('other').getPrevious();
    return {
      text: await client.get('kv/a').string(),
      number: await client.get('kv/b').number(),
      none: await client.get('kv/none'),
      all: await client.getAll().prefix('kv/').strings(),
      keys: await client.getAll().prefix('kv/').sort('Key', 'Descend').keys(),
      limited: await client.getAll().prefix('kv/').limit(1).strings(),
      count: await client.getAll().prefix('kv/').count(),
      previous: previous.value.toString(),
      deleted: (await client.delete().prefix('kv/')).deleted,
      after: await client.getAll().prefix('kv/').count(),
    };
  },

  async namespace() {
    const inner = client.namespace('inner/');
    await inner.put('x').value('y');
    return [
      await client.get('inner/x').string(),
      await inner.getAll().keys(),
      (await inner.delete().all()).deleted,
    ];
  },

  async transactions() {
    const compare = (value) =>
      client
        .if('txn/key', 'Value', '==', value)
        .then(client.put('txn/key').value('was there'))
        .else(client.put('txn/key').value('first'), client.get('txn/key'))
        .commit();
    const [first, second] = [await compare('first'), await compare('first')];
    const created = await client
      .if('txn/new', 'Create', '==', 0)
      .then(client.put('txn/new').value('x'))
      .commit();
    let counted = 0;
    await client.put('txn/count').value(0);
    const add = () =>
      client.stm({ retries: 50 }).transact(async (tx) => {
        const value = await tx.get('txn/count').number();
        await tx.put('txn/count').value(value + 1);
      });
    await Promise.all([add(), add(), add(), add()]);
    counted = await client.get('txn/count').number();
    return [
      first.succeeded,
      second.succeeded,
      created.succeeded,
      counted,
      await client.get('txn/key').string(),
    ];
  },

  async watch() {
    const seen = [];
    const watcher = await client.watch().prefix('watch/').withPreviousKV().create();
    watcher.on('put', (kv, previous) =>
      seen.push(['put', kv.key.toString(), kv.value.toString(), previous?.value.toString()]),
    );
    watcher.on('delete', (kv, previous) =>
      seen.push(['delete', kv.key.toString(), previous?.value.toString()]),
    );
    await client.put('watch/1').value('a');
    await client.put('watch/1').value('b');
    await client.put('elsewhere').value('c');
    await client.delete().key('watch/1');
    while (seen.length < 3) await sleep(10);
    await watcher.cancel();
    // From a revision on, which was long ago.
    const { header } = await client.put('watch/2').value('past').exec();
    await client.put('watch/2').value('present');
    const again = [];
    const later = await client.watch().key('watch/2').startRevision(header.revision).create();
    later.on('put', (kv) => again.push(kv.value.toString()));
    while (again.length < 2) await sleep(10);
    await later.cancel();
    return [seen, again];
  },

  async leases() {
    const lease = client.lease(100);
    await lease.put('lease/key').value('x');
    await lease.keepaliveOnce();
    const granted = await client.leaseClient.leaseTimeToLive({ ID: await lease.grant(), keys: true });
    const there = await client.get('lease/key').string();
    await lease.revoke();
    const short = client.lease(1, { autoKeepAlive: false });
    await short.put('lease/short').value('x').exec();
    const begin = Date.now();
    while ((await client.get('lease/short')) !== null && Date.now() - begin < 20_000) await sleep(100);
    return [
      granted.grantedTTL,
      granted.keys.map(String),
      there,
      await client.get('lease/key'),
      await client.get('lease/short'),
    ];
  },

  async locks() {
    const lock = client.lock('lock/one').ttl(10);
    await lock.acquire();
    const other = await client
      .lock('lock/one')
      .ttl(10)
      .acquire()
      .then(
        () => 'got it',
        (error) => error.constructor.name,
      );
    await lock.release();
    const order = [];
    await Promise.all(
      [1, 2].map(async (n) => {
        for (;;) {
          const tried = client.lock('lock/two').ttl(10);
          try {
            await tried.acquire();
          } catch {
            await sleep(20);
            continue;
          }
          order.push(['in', n]);
          await sleep(30);
          order.push(['out', n]);
          await tried.release();
          return;
        }
      }),
    );
    const overlaps = order.some(([what, n], index) => what === 'in' && order[index + 1]?.[1] !== n);
    return [other, order.length, overlaps];
  },

  async election() {
    const election = client.election('election', 5);
    const campaign = election.campaign('first');
    await new Promise((resolve, reject) => campaign.on('elected', resolve).on('error', reject));
    const observer = await election.observe();
    const leader = observer.leader() ?? (await new Promise((resolve) => observer.once('change', resolve)));
    await campaign.proclaim('second');
    while (observer.leader() !== 'second') await sleep(10);
    const proclaimed = await election.leader();
    await campaign.resign();
    while (observer.leader() !== undefined) await sleep(10);
    await observer.cancel();
    return [leader, proclaimed, (await election.leader()) ?? null];
  },

  async maintenance() {
    return (await client.maintenance.status()).version;
  },

  async auth() {
    const rootRole = client.role('root');
    await rootRole.create();
    const root = await client.user('root').create('root password');
    await root.addRole('root');
    const role = client.role('reader');
    await role.create();
    await role.grant({ permission: 'Read', range: client.range({ prefix: 'auth/open/' }) });
    const user = await client.user('alice').create('password');
    await user.addRole('reader');
    await client.put('auth/open/x').value('for all');
    await client.put('auth/closed').value('for root');
    await client.auth.authEnable();
    const asRoot = new Etcd3({ hosts, auth: { username: 'root', password: 'root password' } });
    const asAlice = new Etcd3({ hosts, auth: { username: 'alice', password: 'password' } });
    const refusal = (done) =>
      done.then(
        () => 'accepted',
        (error) => (error instanceof EtcdPermissionDeniedError ? 'denied' : error.constructor.name),
      );
    const found = [
      await asAlice.get('auth/open/x').string(),
      await refusal(asAlice.get('auth/closed').string()),
      await refusal(asAlice.put('auth/open/x').value('y').exec()),
      await refusal(
        asAlice.if('auth/none', 'Create', '==', 0).then(asAlice.put('auth/open/x').value('y')).commit(),
      ),
      await asRoot.get('auth/closed').string(),
      (await asRoot.getRoles()).map((one) => one instanceof Role && one.name).sort(),
    ];
    await asRoot.auth.authDisable();
    asAlice.close();
    asRoot.close();
    await client.user('alice').delete();
    await client.user('root').delete();
    await client.role('reader').delete();
    await client.role('root').delete();
    return found;
  },
};

const results = {};
for (const [name, part] of Object.entries(parts)) {
  results[name] = await part().catch((error) => ({
    rejected: `${error.constructor.name}: ${error.message}`,
  }));
}
process.stdout.write(JSON.stringify(results));
client.close();
process.exit();
