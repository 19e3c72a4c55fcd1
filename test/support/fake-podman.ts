/**
 * A podman that runs nothing: it has every image, its containers are up for as long as nobody stops them, and it keeps all that it
 * was told, for a test to look at. What the real one makes of that is tested in test/vm.
 */
import { createServer, type IncomingMessage } from 'node:http';
import { text } from 'node:stream/consumers';

interface Created {
  readonly Labels: Readonly<Record<string, string>>;
  readonly HostConfig: { readonly Binds: readonly string[] };
  readonly NetworkingConfig: {
    readonly EndpointsConfig: Readonly<
      Record<string, { readonly IPAMConfig: { readonly IPv4Address: string } }>
    >;
  };
}

export interface FakePodman {
  /** The mounts of the containers of an app that run, as it was asked for them. */
  binds(app: string): readonly string[];
  /** Every request, with its body. */
  told(): string;
  /** Stops an app's containers, as if they had ended by themselves. */
  crash(app: string): void;
  stop(): void;
}

/** @param path of the socket */
export async function startFakePodman(path: string): Promise<FakePodman> {
  const containers = new Map<string, Created & { running: boolean }>();
  const networks: object[] = [];
  const told: string[] = [];
  let next = 1;

  /** Status and body. */
  function answer(method: string, url: URL, body: string): readonly [number, unknown] {
    const route = url.pathname.replace(/^\/v[\d.]+/, '');
    // Containers to look at an image, which has none of the files that are looked for; and what only podman's own API says of one.
    if (route === '/libpod/containers/create') return [201, { Id: (next++).toString(16).padStart(64, '0') }];
    if (route.startsWith('/libpod/containers/')) return [200, { Config: {} }];
    if (route.endsWith('/archive')) return [404, { message: 'no such file' }];
    const [, id = '', verb] = /^\/containers\/([^/]+)(?:\/(\w+))?$/.exec(route) ?? [];
    const container = containers.get(id);
    if (route === '/containers/json') {
      const { label } = JSON.parse(url.searchParams.get('filters') ?? '{"label":[]}') as { label: string[] };
      const found = [...containers].filter(([, { Labels }]) => label.every((one) => one in Labels));
      return [
        200,
        found.map(([Id, { Labels, running }]) => ({
          Id,
          Labels,
          State: running ? 'running' : 'exited',
          Created: 1,
        })),
      ];
    }
    if (route === '/containers/create') {
      const made = (next++).toString(16).padStart(64, '0');
      containers.set(made, { ...(JSON.parse(body) as Created), running: false });
      return [201, { Id: made, id: made }];
    }
    if (route === '/images/json') return [200, []];
    if (route.startsWith('/images/'))
      return [200, { Id: decodeURIComponent(route.split('/')[2]!), Config: { User: '' } }];
    if (route === '/libpod/networks/json') return [200, networks];
    if (route === '/libpod/networks/create') return [200, networks.push(JSON.parse(body)) && {}];
    if (route.startsWith('/libpod/networks/')) return [200, {}];
    if (container === undefined) return [404, { message: 'no such container' }];
    if (method === 'DELETE') return [204, containers.delete(id) && undefined];
    if (verb === 'start') container.running = true;
    if (verb === 'stop' || verb === 'kill') container.running = false;
    if (verb !== 'json') return [204, undefined];
    const Networks = Object.fromEntries(
      Object.entries(container.NetworkingConfig.EndpointsConfig).map(([name, { IPAMConfig }]) => [
        name,
        { IPAddress: IPAMConfig.IPv4Address },
      ]),
    );
    return [
      200,
      {
        Config: { Labels: container.Labels },
        State: { Running: container.running, ExitCode: 1 },
        NetworkSettings: { Networks },
      },
    ];
  }

  const server = createServer(async (request: IncomingMessage, response) => {
    const body = await text(request);
    told.push(`${request.method} ${request.url} ${body}`);
    const [status, reply] = answer(request.method!, new URL(request.url!, 'http://podman'), body);
    response.writeHead(status, { 'content-type': 'application/json' }).end(reply && JSON.stringify(reply));
  });
  await new Promise<void>((resolve) => server.listen(path, resolve));
  const ofApp = (app: string) =>
    [...containers.values()].filter(({ Labels }) => Labels['dstack.app'] === app);

  return {
    binds: (app) =>
      ofApp(app)
        .filter(({ running }) => running)
        .flatMap(({ HostConfig }) => HostConfig.Binds),
    told: () => told.join('\n'),
    crash(app) {
      for (const container of ofApp(app)) container.running = false;
    },
    stop() {
      server.closeAllConnections();
      server.close();
    },
  };
}
