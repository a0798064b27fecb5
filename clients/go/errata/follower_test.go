package errata

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	pb "errata.example/errata/gen/go/errata/v1"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

var errCut = status.Error(codes.Unavailable, "the link was cut")

// followed is a Follower that ran against a fake Learner.
type followed struct {
	replica *Replica
	learner *fakeLearner
	events  []Event
}

func (f *followed) resets() (reasons []pb.WatchResetReason) {
	for _, event := range f.events {
		if reset, ok := event.(WasReset); ok {
			reasons = append(reasons, reset.Reason)
		}
	}
	return reasons
}

func (f *followed) bookmarks() (revisions []int64) {
	for _, event := range f.events {
		if upToDate, ok := event.(UpToDate); ok {
			revisions = append(revisions, upToDate.Bookmark.GetRevision())
		}
	}
	return revisions
}

func (f *followed) disconnected() (ended []Disconnected) {
	for _, event := range f.events {
		if each, ok := event.(Disconnected); ok {
			ended = append(ended, each)
		}
	}
	return ended
}

func (f *followed) ids() (ids []string) {
	for key := range f.replica.All() {
		ids = append(ids, key.ID)
	}
	slices.Sort(ids)
	return ids
}

// follow runs a Follower through a script, until a minute has passed or Run ends, and checks what Run returned.
// The clock is that of the test: the minute takes milliseconds.
func follow(t *testing.T, check func(*followed, error), script ...func(serverStream) error) {
	t.Helper()
	followWith(t, &Replica{}, check, script...)
}

func followWith(
	t *testing.T, replica *Replica, check func(*followed, error), script ...func(serverStream) error,
) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		watched := &followed{replica: replica, learner: &fakeLearner{script: script}}
		follower := Follower{
			Learner: connect(t, watched.learner),
			Replica: replica,
			OnEvent: func(event Event) error {
				watched.events = append(watched.events, event)
				return nil
			},
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		err := follower.Run(ctx)
		check(watched, err)
	})
}

func TestAStreamThatBreaksIsResumedFromTheLastToken(t *testing.T) {
	store := newHistory("a")
	first := store.batch(store.put("one"), store.put("two"))
	afterFirst := store.token()
	missed := store.batch(store.deleted("one"), store.put("three"))
	bookmark := store.bookmark()
	follow(t, func(watched *followed, err error) {
		if tokens := watched.learner.tokens()[:2]; !slices.Equal(tokens, []string{"", afterFirst}) {
			t.Errorf("presented %q", tokens)
		}
		if ids := watched.ids(); !slices.Equal(ids, []string{"three", "two"}) {
			t.Errorf("holds %q", ids)
		}
		if revisions := watched.bookmarks(); !slices.Equal(revisions, []int64{4}) {
			t.Errorf("was up to date at %v", revisions)
		}
		if len(watched.resets()) > 0 || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("reset for %v, ended with %v", watched.resets(), err)
		}
	}, play(errCut, store.hello(), first), playAndWait(store.hello(), missed, bookmark))
}

func TestABookmarkCarriesTheTokenForward(t *testing.T) {
	store := newHistory("a")
	all := store.all()
	store.revision = 7 // Changes of other namespaces.
	follow(t, func(watched *followed, _ error) {
		if token := watched.learner.tokens()[1]; token != "a@7" {
			t.Errorf("presented %q", token)
		}
	}, play(nil, store.hello(), all, store.bookmark()))
}

func TestAResetDropsTheExamplesAndTheirToken(t *testing.T) {
	store, restored := newHistory("a"), newHistory("b")
	store.put("gone")
	store.put("kept")
	restored.put("kept")
	follow(t, func(watched *followed, _ error) {
		if tokens := watched.learner.tokens()[:4]; !slices.Equal(tokens, []string{"", "a@2", "", "b@1"}) {
			t.Errorf("presented %q", tokens)
		}
		if ids := watched.ids(); !slices.Equal(ids, []string{"kept"}) {
			t.Errorf("holds %q", ids)
		}
		if reasons := watched.resets(); !slices.Equal(reasons, []pb.WatchResetReason{storeChanged}) {
			t.Errorf("reset for %v", reasons)
		}
		if revisions := watched.bookmarks(); !slices.Equal(revisions, []int64{2, 1}) {
			t.Errorf("was up to date at %v", revisions)
		}
	},
		play(errCut, store.hello(), store.all()),
		// Cut right after the Reset: nothing is held, and the next call has to start from nothing.
		play(errCut, restored.hello(), reset(storeChanged)),
		play(errCut, restored.hello(), restored.all()),
	)
}

const storeChanged = pb.WatchResetReason_WATCH_RESET_REASON_STORE_CHANGED

func TestADrainingLearnerIsCalledAgainWithTheTokenThatItGave(t *testing.T) {
	store := newHistory("a")
	follow(t, func(watched *followed, _ error) {
		if tokens := watched.learner.tokens()[:2]; !slices.Equal(tokens, []string{"", "parting"}) {
			t.Errorf("presented %q", tokens)
		}
	}, playAndWait(store.hello(), store.all(), draining("parting")))
}

func TestATokenGivenInPartingIsNotTakenWhileAResetIsDue(t *testing.T) {
	store, other := newHistory("a"), newHistory("b")
	store.put("one")
	follow(t, func(watched *followed, _ error) {
		if tokens := watched.learner.tokens()[:3]; !slices.Equal(tokens, []string{"", "a@1", "a@1"}) {
			t.Errorf("presented %q", tokens)
		}
	}, play(nil, store.hello(), store.all()), playAndWait(other.hello(), draining("b@0")))
}

func TestASilentStreamIsGivenUpAndResumed(t *testing.T) {
	store := newHistory("a")
	store.put("one")
	follow(t, func(watched *followed, _ error) {
		if tokens := watched.learner.tokens()[:2]; !slices.Equal(tokens, []string{"", "a@1"}) {
			t.Errorf("presented %q", tokens)
		}
		if ended := watched.disconnected(); ended[0].Err != errSilent {
			t.Errorf("ended with %v", ended[0].Err)
		}
		// In a minute there is time for three or four silences and the delays after them.
		if calls := len(watched.learner.tokens()); calls < 3 || calls > 4 {
			t.Errorf("called %d times", calls)
		}
	}, playAndWait(store.hello(), store.all()))
}

func TestTimeSpentOnAMessageIsNoSilence(t *testing.T) {
	store := newHistory("a")
	store.put("one")
	synctest.Test(t, func(t *testing.T) {
		learner := &fakeLearner{script: []func(serverStream) error{func(stream serverStream) error {
			if err := play(nil, store.hello(), store.all())(stream); err != nil {
				return err
			}
			// After what takes the client so long.
			time.Sleep(2*silenceMax + time.Second)
			return playAndWait(store.bookmark())(stream)
		}}}
		done, bookmarks := errors.New("done"), 0
		follower := Follower{Learner: connect(t, learner), Replica: &Replica{}, OnEvent: func(event Event) error {
			switch event.(type) {
			case Changed:
				time.Sleep(2 * silenceMax)
			case UpToDate:
				if bookmarks++; bookmarks == 2 {
					return done
				}
			}
			return nil
		}}
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
		defer cancel()
		if err := follower.Run(ctx); !errors.Is(err, done) {
			t.Errorf("ended with %v", err)
		}
		if calls := len(learner.tokens()); calls != 1 {
			t.Errorf("called %d times", calls)
		}
	})
}

func TestWhatDisagreesWithTheLearnerEndsTheRun(t *testing.T) {
	store, other := newHistory("a"), newHistory("b")
	one := store.put("one")
	other.put("one") // Count and digest agree: only the Hello tells the two apart.
	all := store.all()
	forged := store.bookmark()
	forged.GetBookmark().Digest[15]++
	miscounted := store.bookmark()
	miscounted.GetBookmark().ExampleCount++
	past := store.bookmark()
	past.GetBookmark().Revision--
	for name, second := range map[string][]*pb.WatchUpdatesResponse{
		"another digest":                {store.hello(), forged},
		"another count":                 {store.hello(), miscounted},
		"a bookmark of the past":        {store.hello(), past},
		"a change twice":                {store.hello(), store.batch(one)},
		"a change of no kind":           {store.hello(), store.batch(&pb.ExampleUpdate{Revision: 9})},
		"no Hello":                      {store.bookmark()},
		"another store without a Reset": {other.hello(), other.bookmark()},
		"a message of no kind":          {store.hello(), {}},
	} {
		t.Run(name, func(t *testing.T) {
			follow(t, func(_ *followed, err error) {
				var diverged *DivergedError
				if !errors.As(err, &diverged) {
					t.Errorf("ended with %v", err)
				}
			}, play(errCut, store.hello(), all), playAndWait(second...))
		})
	}
}

func TestARefusalEndsTheRunWithItsReason(t *testing.T) {
	follow(t, func(watched *followed, err error) {
		if ReasonOf(err) != pb.ErrorReason_ERROR_REASON_INVALID_FIELD || status.Code(err) != codes.InvalidArgument {
			t.Errorf("ended with %v", err)
		}
		if calls := len(watched.learner.tokens()); calls != 1 {
			t.Errorf("called %d times", calls)
		}
	}, play(failure(t, codes.InvalidArgument, "ERROR_REASON_INVALID_FIELD")))
}

func TestATokenThatTheLearnerCannotReadIsDroppedWithWhatItBelongsTo(t *testing.T) {
	store := newHistory("a")
	store.put("one")
	follow(t, func(watched *followed, _ error) {
		if tokens := watched.learner.tokens()[:3]; !slices.Equal(tokens, []string{"", "a@1", ""}) {
			t.Errorf("presented %q", tokens)
		}
		if watched.replica.Len() != 0 || len(watched.resets()) != 1 {
			t.Errorf("holds %v, reset for %v", watched.ids(), watched.resets())
		}
	}, play(errCut, store.hello(), store.all()), play(failure(t, codes.InvalidArgument, "ERROR_REASON_TOKEN_MALFORMED")))
}

func TestAStreamThatHadLivedIsFollowedByTheNextAtOnce(t *testing.T) {
	store := newHistory("a")
	follow(t, func(watched *followed, _ error) {
		if ended := watched.disconnected(); ended[0].Retry >= firstDelayMax {
			t.Errorf("waits %v", ended[0].Retry)
		}
	}, func(stream serverStream) error {
		if err := play(nil, store.hello())(stream); err != nil {
			return err
		}
		time.Sleep(streamLivedMin)
		return play(errCut, store.bookmark())(stream)
	})
}

func TestFailuresWaitLongerEachTimeUpToABoundAndAGoodStreamEndsThat(t *testing.T) {
	var attempts reconnect
	for _, ceiling := range []time.Duration{delayMin, 2 * delayMin, 4 * delayMin, 8 * delayMin, 16 * delayMin, 32 * delayMin, delayMax} {
		if got := attempts.delay(0); got < 0 || got >= ceiling {
			t.Errorf("%v of at most %v", got, ceiling)
		}
	}
	for range 100 {
		if got := attempts.delay(0); got >= delayMax {
			t.Errorf("%v", got)
		}
	}
	if got := attempts.delay(streamLivedMin); got >= firstDelayMax || attempts.failures != 0 {
		t.Errorf("%v after a good stream, %d failures", got, attempts.failures)
	}
}

// failure is how a service fails: a status with one ErrorInfo.
func failure(t *testing.T, code codes.Code, reason string) error {
	t.Helper()
	said, err := status.New(code, "said why").WithDetails(
		&errdetails.ErrorInfo{Reason: reason, Domain: errorDomain, Metadata: map[string]string{"field": "events[0]"}},
	)
	if err != nil {
		t.Fatal(err)
	}
	return said.Err()
}
