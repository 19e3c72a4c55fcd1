/**
 * A client of the store, or of a bare etcd: grpc-js with the product's own messages. It hides nothing: no retries, and a call that
 * failed says whether it can have happened.
 */
import {
  create,
  type DescMessage,
  type DescMethodBiDiStreaming,
  type DescMethodServerStreaming,
  type DescMethodUnary,
  fromBinary,
  type MessageInitShape,
  type MessageShape,
  toBinary,
} from '@bufbuild/protobuf';
import {
  type ChannelCredentials,
  Client,
  type ClientDuplexStream,
  credentials,
  type deserialize as Deserialize,
  Metadata,
  type serialize as Serialize,
  type ServiceError,
} from '@grpc/grpc-js';

export type { ServiceError };

const OPTIONS = {
  // A server that was killed is soon back.
  'grpc.initial_reconnect_backoff_ms': 30,
  'grpc.min_reconnect_backoff_ms': 30,
  'grpc.max_reconnect_backoff_ms': 150,
  'grpc.max_receive_message_length': -1,
  // Each client has a connection of its own.
  'grpc.use_local_subchannel_pool': 1,
};

export class StoreClient {
  readonly #client: Client;
  /** Sent with every call, as etcd's clients do after Authenticate. */
  token: string | undefined;

  /** `address` is a host and a port. */
  constructor(address: string, channel: ChannelCredentials = credentials.createInsecure()) {
    this.#client = new Client(address, channel, OPTIONS);
  }

  /** @throws ServiceError with gRPC's code and the server's text */
  call<I extends DescMessage, O extends DescMessage>(
    method: DescMethodUnary<I, O>,
    request: MessageInitShape<I>,
    milliseconds = 20_000,
  ): Promise<MessageShape<O>> {
    const { path, serialize, deserialize } = wire(method);
    const message = create(method.input, request) as MessageShape<I>;
    return new Promise((resolve, reject) => {
      this.#client.makeUnaryRequest(
        path,
        serialize,
        deserialize,
        message,
        this.#metadata(),
        { deadline: Date.now() + milliseconds },
        (error, answer) => (error === null ? resolve(answer as MessageShape<O>) : reject(error)),
      );
    });
  }

  stream<I extends DescMessage, O extends DescMessage>(
    method: DescMethodBiDiStreaming<I, O> | DescMethodServerStreaming<I, O>,
  ): ClientDuplexStream<MessageShape<I>, MessageShape<O>> {
    const { path, serialize, deserialize } = wire(method);
    return this.#client.makeBidiStreamRequest(path, serialize, deserialize, this.#metadata());
  }

  close(): void {
    this.#client.close();
  }

  #metadata(): Metadata {
    const metadata = new Metadata();
    if (this.token !== undefined) metadata.set('token', this.token);
    return metadata;
  }
}

interface Method<I extends DescMessage, O extends DescMessage> {
  readonly name: string;
  readonly parent: { readonly typeName: string };
  readonly input: I;
  readonly output: O;
}

function wire<I extends DescMessage, O extends DescMessage>(
  method: Method<I, O>,
): { path: string; serialize: Serialize<MessageShape<I>>; deserialize: Deserialize<MessageShape<O>> } {
  return {
    path: `/${method.parent.typeName}/${method.name}`,
    serialize: (message) => Buffer.from(toBinary(method.input, message)),
    deserialize: (bytes) => fromBinary(method.output, bytes),
  };
}

/** Whether the call never left this process: nobody listened. Of every other failure it is unknown whether the call happened. */
export function neverLeft(error: unknown): boolean {
  const { details = '' } = error as ServiceError;
  return details.startsWith('No connection established') || details.includes('ECONNREFUSED');
}
