/** How a service declares what it serves: a method of the .proto files and its handler, checked against each other. */
import type {
  DescMessage,
  DescMethodBiDiStreaming,
  DescMethodServerStreaming,
  DescMethodUnary,
} from '@bufbuild/protobuf';
import type { ServedMethod, StreamHandler, UnaryHandler } from '../types.ts';

export function unary<I extends DescMessage, O extends DescMessage>(
  method: DescMethodUnary<I, O>,
  handle: UnaryHandler<I, O>,
): ServedMethod {
  // The handler gets what the server parsed by this very method's schema.
  return { kind: 'unary', method, handle: handle as unknown as UnaryHandler<DescMessage, DescMessage> };
}

export function streaming<I extends DescMessage, O extends DescMessage>(
  method: DescMethodBiDiStreaming<I, O> | DescMethodServerStreaming<I, O>,
  handle: StreamHandler<I, O>,
): ServedMethod {
  return { kind: 'stream', method, handle: handle as unknown as StreamHandler<DescMessage, DescMessage> };
}
