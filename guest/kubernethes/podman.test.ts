import { expect, test } from 'vitest';
import { containerRequest, networkRequest } from './podman.ts';

const network = { name: 'dstack-greeting', gateway: '10.90.3.1' };
const spec = { name: 'c', app: 'greeting', image: 'ab'.repeat(32), env: { A: '1 2' }, network };

test('a container gets the image by its id, and as little else as possible', () => {
  expect(containerRequest(spec)).toMatchObject({
    Image: `sha256:${'ab'.repeat(32)}`,
    Env: ['A=1 2'],
    HostConfig: {
      NetworkMode: 'dstack-greeting',
      ExtraHosts: ['dstack-guest:10.90.3.1'],
      Binds: [],
      CapDrop: ['ALL'],
      SecurityOpt: ['no-new-privileges'],
      ReadonlyRootfs: true,
      PidsLimit: expect.any(Number),
      Memory: expect.any(Number),
    },
  });
  const text = JSON.stringify(containerRequest(spec));
  // Raw sockets would let an app claim another's address; the rest would let it out.
  for (const word of ['NET_RAW', 'NET_ADMIN', 'SYS_', 'Privileged', 'Devices'])
    expect(text).not.toContain(word);
});

test('only the app’s own folder is mounted', () => {
  expect(containerRequest({ ...spec, data: '/mnt/encrypted_data/apps/greeting' })).toMatchObject({
    HostConfig: { Binds: ['/mnt/encrypted_data/apps/greeting:/mnt/encrypted_data:rw,nosuid,nodev'] },
  });
});

test('each network has its own isolated bridge under the firewall’s prefix', () => {
  expect(networkRequest('dstack-greeting', 3)).toMatchObject({
    network_interface: 'dstack3',
    subnets: [{ subnet: '10.90.3.0/24', gateway: '10.90.3.1' }],
    options: { isolate: 'true' },
  });
});
