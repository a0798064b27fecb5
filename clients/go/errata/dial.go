// Package errata is a client of the Errata services, small enough to copy from.
//
// Dial makes a connection whose calls fail with a typed *Error. Correction turns what a person ran instead of
// what an assistant proposed into events. Follower keeps a Replica of the Learner's examples up to date over
// restarts of either side, and compares it with the Learner's digest at every bookmark.
//
// The generated stubs are in errata.example/errata/gen/go/errata/v1; this package adds to them and hides
// nothing of them.
package errata

import (
	"context"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
)

const (
	// A link without traffic is probed so often. The services send away who probes more often than every 5 s.
	pingInterval = 10 * time.Second
	// A probe without an answer for so long means a dead link: it is noticed after 20 s and a little.
	pingTimeout = 10 * time.Second
	// gRPC's own 20 s would hold up each attempt over a link that swallows packets.
	connectTimeout = 5 * time.Second
	// Twice what the contract allows. gRPC's own 4 MiB would refuse an answer of 4 MiB and a few bytes.
	messageBytesMax = 8 << 20
)

// Every call but the stream is safe to retry: the contract says so of each. The stream is retried by Follower,
// which knows what it holds. The deadline of a call bounds its attempts.
const serviceConfig = `{
  "methodConfig": [{
    "name": [
      {"service": "errata.v1.RagService"},
      {"service": "errata.v1.LearnerService", "method": "RecordEvents"},
      {"service": "errata.v1.LearnerService", "method": "Reconcile"},
      {"service": "errata.v1.LearnerService", "method": "Backfill"},
      {"service": "errata.v1.LearnerService", "method": "GetBackfill"},
      {"service": "errata.v1.LearnerService", "method": "GetBlock"},
      {"service": "errata.v1.LearnerService", "method": "ListBlocks"},
      {"service": "errata.v1.LearnerService", "method": "ListExamples"},
      {"service": "errata.v1.LearnerService", "method": "ForgetExample"},
      {"service": "errata.v1.LearnerService", "method": "GetStatus"}
    ],
    "retryPolicy": {
      "maxAttempts": 4,
      "initialBackoff": "0.1s",
      "maxBackoff": "2s",
      "backoffMultiplier": 2,
      "retryableStatusCodes": ["UNAVAILABLE"]
    }
  }]
}`

// Dial makes a connection to a service at HOST:PORT. It returns at once: the first call connects. Keep one for
// each service and share it between goroutines; close it in the end.
//
// The options come after those of this function and so override them, such as
// grpc.WithTransportCredentials for a service behind TLS.
func Dial(target string, options ...grpc.DialOption) (*grpc.ClientConn, error) {
	return grpc.NewClient(target, append([]grpc.DialOption{
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{
			Time: pingInterval, Timeout: pingTimeout, PermitWithoutStream: true,
		}),
		grpc.WithConnectParams(grpc.ConnectParams{
			// Of the connection alone. Who calls backs off further; two long back-offs would only add up.
			Backoff:           backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 2 * time.Second},
			MinConnectTimeout: connectTimeout,
		}),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(messageBytesMax), grpc.MaxCallSendMsgSize(messageBytesMax)),
		grpc.WithDefaultServiceConfig(serviceConfig),
		// The services stand in one network; a proxy set for the way out of it does not lead to them.
		grpc.WithNoProxy(),
		grpc.WithChainUnaryInterceptor(typedErrors),
	}, options...)...)
}

// typedErrors makes every unary call fail with what AsError returns.
func typedErrors(
	ctx context.Context, method string, request, reply any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker,
	options ...grpc.CallOption,
) error {
	return AsError(invoke(ctx, method, request, reply, conn, options...))
}
