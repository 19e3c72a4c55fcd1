/**
 * What is between the members of an etcd, and can be cut: each is known to the others by a port of ours, behind which it listens. Who dials
 * says so in the header of its requests (`X-Server-From`, etcd's rafthttp), so that any two can be parted in both directions.
 */
import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';

interface Link {
  readonly to: number;
  /** The id of the member that dialled; undefined until it has said so. */
  from: string | undefined;
  readonly sockets: readonly Socket[];
}

export class Links {
  readonly #servers: Server[] = [];
  readonly #links = new Set<Link>();
  /** By member: its id in hex, as etcd derives it. */
  #ids: readonly string[] = [];
  #isParted: (one: number, other: number) => boolean = () => false;

  /** The port by which the others reach a member that listens at `port`. */
  async to(member: number, port: number): Promise<number> {
    const server = createServer((socket) => this.#take(member, port, socket));
    this.#servers.push(server);
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    return (server.address() as AddressInfo).port;
  }

  /** @param ids of the members, as etcd says them */
  know(ids: readonly bigint[]): void {
    this.#ids = ids.map((id) => id.toString(16));
  }

  /** From now on nothing passes between those that are parted, nor what was on its way. */
  part(isParted: (one: number, other: number) => boolean): void {
    this.#isParted = isParted;
    for (const link of this.#links) if (this.#isCut(link)) end(link);
  }

  heal(): void {
    this.#isParted = () => false;
  }

  close(): void {
    for (const server of this.#servers) server.close();
    for (const link of this.#links) end(link);
  }

  #take(to: number, port: number, socket: Socket): void {
    const target = connect(port, '127.0.0.1');
    const link: Link = { to, from: undefined, sockets: [socket, target] };
    this.#links.add(link);
    for (const one of link.sockets) {
      one.on('error', () => {});
      one.on('close', () => {
        end(link);
        this.#links.delete(link);
      });
    }
    let head = '';
    socket.on('data', (chunk: Buffer) => {
      if (link.from === undefined) {
        head = (head + chunk.toString('latin1')).slice(0, 8192);
        link.from = /^x-server-from: ([0-9a-f]+)\r$/im.exec(head)?.[1];
      }
      if (this.#isCut(link)) return end(link);
      if (!target.write(chunk)) socket.pause();
    });
    target.on('drain', () => socket.resume());
    target.pipe(socket);
  }

  /** One that has not said who it is belongs to nobody's side. */
  #isCut({ from, to }: Link): boolean {
    const dialler = from === undefined ? -1 : this.#ids.indexOf(from);
    if (dialler === -1) return this.#ids.some((_, one) => one !== to && this.#isParted(one, to));
    return this.#isParted(dialler, to);
  }
}

function end({ sockets }: Link): void {
  for (const socket of sockets) socket.destroy();
}
