package errata

import (
	"context"
	"errors"
	"io"
	"time"

	pb "errata.example/errata/gen/go/errata/v1"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"
)

const (
	// How often the Learner says, on a quiet stream, that nothing is missing.
	bookmarkInterval = 5 * time.Second
	// A stream without any message for so long is dead, even if keepalive is answered: the Learner's gRPC may
	// be alive and its event loop stuck.
	silenceMax = 3 * bookmarkInterval
)

var errSilent = errors.New("the Learner is silent")

// Event is something that a Follower tells of: Opened, Changed, UpToDate, WasReset or Disconnected.
type Event interface{ event() }

type (
	// Opened says that a stream begins. Changes since the token of the replica follow.
	Opened struct{ Hello *pb.WatchHello }
	// Changed says that the replica has taken in changes.
	Changed struct{ Updates []*pb.ExampleUpdate }
	// UpToDate says that the replica holds exactly the Learner's state at a revision: count and digest agree.
	UpToDate struct{ Bookmark *pb.WatchBookmark }
	// WasReset says that the replica was emptied and is received from nothing.
	WasReset struct{ Reason pb.WatchResetReason }
	// Disconnected says that the stream ended and when the next one begins. Err is nil when it ended well.
	Disconnected struct {
		Err   error
		Retry time.Duration
	}
)

func (Opened) event()       {}
func (Changed) event()      {}
func (UpToDate) event()     {}
func (WasReset) event()     {}
func (Disconnected) event() {}

// Follower keeps a replica up to date, one WatchUpdates stream after another.
type Follower struct {
	// Learner is the service to follow.
	Learner pb.LearnerServiceClient
	// Replica is what to keep up to date. It resumes from its token, if it has one.
	Replica *Replica
	// Watcher names this client in the Learner's metrics and logs.
	Watcher string
	// Namespaces are those to follow; none means all. A replica of some must not follow others: the Learner
	// would have it start over.
	Namespaces []string
	// OnEvent is called for each event, in order, after the replica has taken it in; the stream waits for it.
	// An error ends Run. It may be nil.
	OnEvent func(Event) error
}

// Run follows until ctx ends, and returns what ended it: the error of ctx or of OnEvent, a *DivergedError, or a
// refusal that the same call would get again, such as PERMISSION_DENIED. All else is tried again, with a
// jittered back-off. The replica stays good for another Run, except after a *DivergedError.
func (f *Follower) Run(ctx context.Context) error {
	var attempts reconnect
	for {
		stream := stream{follower: f}
		err := stream.run(ctx)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case stream.fatal != nil:
			return stream.fatal
		case ReasonOf(err) == pb.ErrorReason_ERROR_REASON_TOKEN_MALFORMED && len(f.Replica.Token()) > 0:
			// A Learner of another version, say. What the token belongs to goes with it.
			f.Replica.Reset()
			if err := f.tell(WasReset{}); err != nil {
				return err
			}
		case refused(err):
			return err
		}
		delay := attempts.delay(stream.lived())
		if err := f.tell(Disconnected{Err: err, Retry: delay}); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(delay):
		}
	}
}

func (f *Follower) tell(event Event) error {
	if f.OnEvent == nil {
		return nil
	}
	return f.OnEvent(event)
}

// refused tells whether the same call would fail again. Everything else may pass, Canceled too: thousands of
// streams that are opened at once end in it.
func refused(err error) bool {
	switch status.Code(err) {
	case codes.FailedPrecondition, codes.InvalidArgument, codes.PermissionDenied, codes.Unauthenticated, codes.Unimplemented:
		return true
	default:
		return false
	}
}

// stream is one call and its end.
type stream struct {
	follower *Follower
	hello    *pb.WatchHello
	// resetIsDue holds from a Hello that the replica does not continue under to the Reset that must follow.
	resetIsDue bool
	// fatal is what ends not only this stream.
	fatal    error
	openedAt time.Time
	heardAt  time.Time
}

// lived is the time from the Hello to the last message.
func (s *stream) lived() time.Duration { return s.heardAt.Sub(s.openedAt) }

// run makes the call and feeds the replica until the stream ends; nil when it ended well.
func (s *stream) run(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	watchdog := time.AfterFunc(silenceMax, func() { cancel(errSilent) })
	defer watchdog.Stop()
	call, err := s.follower.Learner.WatchUpdates(ctx, &pb.WatchUpdatesRequest{
		ResumeToken:      s.follower.Replica.Token(),
		Watcher:          s.follower.Watcher,
		BookmarkInterval: durationpb.New(bookmarkInterval),
		Namespaces:       s.follower.Namespaces,
	})
	if err != nil {
		return AsError(err)
	}
	for {
		message, err := call.Recv()
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil && errors.Is(context.Cause(ctx), errSilent):
			return errSilent
		case err != nil:
			return AsError(err)
		}
		// What is done with a message is no silence of the Learner.
		watchdog.Stop()
		if s.fatal = s.take(message); s.fatal != nil {
			return s.fatal
		}
		if message.GetDraining() != nil {
			return nil
		}
		watchdog.Reset(silenceMax)
	}
}

// take brings the replica to where a message says, and tells of it.
func (s *stream) take(message *pb.WatchUpdatesResponse) error {
	replica := s.follower.Replica
	s.heardAt = time.Now()
	if hello := message.GetHello(); hello != nil {
		return s.open(hello)
	}
	if s.hello == nil {
		return diverged("the stream does not begin with a Hello")
	}
	switch said := message.GetMessage().(type) {
	case *pb.WatchUpdatesResponse_Reset_:
		s.resetIsDue = false
		replica.restart(sourceOf(s.hello))
		return s.follower.tell(WasReset{Reason: said.Reset_.GetReason()})
	case *pb.WatchUpdatesResponse_Draining:
		// Before a Reset that did not come any more, the Learner gives back what it was given.
		if token := said.Draining.GetToken(); !s.resetIsDue {
			replica.advance(token)
		}
		return nil
	}
	if s.resetIsDue {
		return diverged("the stream goes on from a state of another store or embedder")
	}
	switch said := message.GetMessage().(type) {
	case *pb.WatchUpdatesResponse_Batch:
		return s.change(said.Batch)
	case *pb.WatchUpdatesResponse_Bookmark:
		return s.mark(said.Bookmark)
	default:
		return diverged("a message that this client does not know")
	}
}

func (s *stream) open(hello *pb.WatchHello) error {
	s.hello, s.openedAt = hello, s.heardAt
	replica, from := s.follower.Replica, sourceOf(hello)
	if len(replica.Token()) == 0 {
		// A call without a token is owed no Reset, whatever the store.
		replica.restart(from)
	} else {
		s.resetIsDue = !replica.continues(from)
	}
	return s.follower.tell(Opened{Hello: hello})
}

func (s *stream) change(batch *pb.WatchBatch) error {
	if err := s.follower.Replica.apply(batch.GetUpdates(), batch.GetToken()); err != nil {
		return err
	}
	if err := s.follower.tell(Changed{Updates: batch.GetUpdates()}); err != nil {
		return err
	}
	if batch.GetBookmark() == nil {
		return nil
	}
	return s.mark(batch.GetBookmark())
}

func (s *stream) mark(bookmark *pb.WatchBookmark) error {
	if err := s.follower.Replica.check(bookmark); err != nil {
		return err
	}
	return s.follower.tell(UpToDate{Bookmark: bookmark})
}
