package errata

import (
	"context"
	"net"
	"slices"
	"strconv"
	"sync"
	"testing"

	pb "errata.example/errata/gen/go/errata/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/test/bufconn"
)

// fakeLearner answers the calls of WatchUpdates by a script, one function a call. A call after the last one says
// nothing and waits for its end.
type fakeLearner struct {
	pb.UnimplementedLearnerServiceServer
	script []func(serverStream) error

	mutex    sync.Mutex
	requests []*pb.WatchUpdatesRequest
}

type serverStream = grpc.ServerStreamingServer[pb.WatchUpdatesResponse]

func (f *fakeLearner) WatchUpdates(request *pb.WatchUpdatesRequest, stream serverStream) error {
	f.mutex.Lock()
	number := len(f.requests)
	f.requests = append(f.requests, request)
	f.mutex.Unlock()
	if number >= len(f.script) {
		<-stream.Context().Done()
		return stream.Context().Err()
	}
	return f.script[number](stream)
}

// tokens are those that were presented so far, a call each.
func (f *fakeLearner) tokens() []string {
	f.mutex.Lock()
	defer f.mutex.Unlock()
	var presented []string
	for _, request := range f.requests {
		presented = append(presented, string(request.GetResumeToken()))
	}
	return presented
}

// connect serves in the process, and connects to that as Dial does.
func connect(t *testing.T, learner pb.LearnerServiceServer) pb.LearnerServiceClient {
	t.Helper()
	listener := bufconn.Listen(1 << 20)
	// As the services: who probes more often is sent away.
	server := grpc.NewServer(grpc.KeepaliveEnforcementPolicy(
		keepalive.EnforcementPolicy{MinTime: pingInterval / 2, PermitWithoutStream: true},
	))
	pb.RegisterLearnerServiceServer(server, learner)
	var served sync.WaitGroup
	served.Go(func() { _ = server.Serve(listener) })
	conn, err := Dial("passthrough:///fake", grpc.WithContextDialer(
		func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) },
	))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		conn.Close()
		server.Stop()
		served.Wait()
	})
	return pb.NewLearnerServiceClient(conn)
}

// play answers a call with messages, and ends it with an error or, when that is nil, well.
func play(err error, messages ...*pb.WatchUpdatesResponse) func(serverStream) error {
	return func(stream serverStream) error {
		for _, message := range messages {
			if err := stream.Send(message); err != nil {
				return err
			}
		}
		return err
	}
}

// playAndWait answers a call with messages, and leaves it open.
func playAndWait(messages ...*pb.WatchUpdatesResponse) func(serverStream) error {
	return func(stream serverStream) error {
		if err := play(nil, messages...)(stream); err != nil {
			return err
		}
		<-stream.Context().Done()
		return stream.Context().Err()
	}
}

// history is a store that tests write: what its stream would say is made from it.
type history struct {
	name     string
	revision int64
	live     map[string]int64
}

func newHistory(name string) *history { return &history{name: name, live: make(map[string]int64)} }

func (h *history) hello() *pb.WatchUpdatesResponse {
	return &pb.WatchUpdatesResponse{Message: &pb.WatchUpdatesResponse_Hello{Hello: &pb.WatchHello{
		StoreId: []byte(h.name), EmbedderFingerprint: "hashing", HeadRevision: h.revision,
	}}}
}

// token names store and revision, so that tests can read which was presented.
func (h *history) token() string { return h.name + "@" + strconv.FormatInt(h.revision, 10) }

// put changes an example.
func (h *history) put(id string) *pb.ExampleUpdate {
	h.revision++
	h.live[id] = h.revision
	return &pb.ExampleUpdate{Revision: h.revision, Change: &pb.ExampleUpdate_Put{Put: &pb.Example{Id: id}}}
}

func (h *history) deleted(id string) *pb.ExampleUpdate {
	h.revision++
	delete(h.live, id)
	return &pb.ExampleUpdate{Revision: h.revision, Change: &pb.ExampleUpdate_Deleted{Deleted: &pb.ExampleKey{Id: id}}}
}

func (h *history) mark() *pb.WatchBookmark {
	var digest Digest
	for id, revision := range h.live {
		digest.Add(Key{ID: id}, revision)
	}
	return &pb.WatchBookmark{
		Token: []byte(h.token()), Revision: h.revision, ExampleCount: int64(len(h.live)), Digest: digest.Bytes(),
	}
}

// batch has the token of the history as it now is.
func (h *history) batch(updates ...*pb.ExampleUpdate) *pb.WatchUpdatesResponse {
	return &pb.WatchUpdatesResponse{Message: &pb.WatchUpdatesResponse_Batch{
		Batch: &pb.WatchBatch{Updates: updates, Token: []byte(h.token())},
	}}
}

// all is what a client without a token gets, up to a bookmark in the same message.
func (h *history) all() *pb.WatchUpdatesResponse {
	var updates []*pb.ExampleUpdate
	for id, revision := range h.live {
		updates = append(updates, &pb.ExampleUpdate{
			Revision: revision, Change: &pb.ExampleUpdate_Put{Put: &pb.Example{Id: id}},
		})
	}
	slices.SortFunc(updates, func(a, b *pb.ExampleUpdate) int { return int(a.GetRevision() - b.GetRevision()) })
	message := h.batch(updates...)
	message.GetBatch().Bookmark = h.mark()
	return message
}

func (h *history) bookmark() *pb.WatchUpdatesResponse {
	return &pb.WatchUpdatesResponse{Message: &pb.WatchUpdatesResponse_Bookmark{Bookmark: h.mark()}}
}

func reset(reason pb.WatchResetReason) *pb.WatchUpdatesResponse {
	return &pb.WatchUpdatesResponse{Message: &pb.WatchUpdatesResponse_Reset_{Reset_: &pb.WatchReset{Reason: reason}}}
}

func draining(token string) *pb.WatchUpdatesResponse {
	return &pb.WatchUpdatesResponse{Message: &pb.WatchUpdatesResponse_Draining{
		Draining: &pb.WatchDraining{Token: []byte(token)},
	}}
}
