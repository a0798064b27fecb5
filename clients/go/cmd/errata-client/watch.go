package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"errata.example/errata/clients/go/errata"
	pb "errata.example/errata/gen/go/errata/v1"
)

const watchAbout = `Follows every change of what was learned, over restarts of the Learner, until Ctrl-C. Prints a line for each
change and each bookmark that moves on, where the count and the digest of what was received are compared with
the Learner's:

  put       REVISION  BLOCK  COMMAND
  deleted   REVISION  BLOCK
  bookmark  REVISION  COUNT  DIGEST
  reset     REASON
`

// saveInterval bounds how often the file is written, which takes the longer the more there is to hold.
const saveInterval = 10 * time.Second

// errDone ends a watch that has seen what it was to see.
var errDone = errors.New("done")

func (p program) watch(ctx context.Context, arguments []string) error {
	o := p.newOptions("watch", "", watchAbout)
	o.at("learner", "127.0.0.1:7411")
	state := o.String("state", "", "file that keeps what was received: a later watch goes on from it")
	once := o.Bool("once", false, "end at the first bookmark")
	name := o.String("watcher", "errata-client", "name in the Learner's metrics and logs")
	var namespaces texts
	o.Var(&namespaces, "namespace", "follow this namespace; repeatable; all of them unless given")
	if err := o.read(arguments, 0); err != nil {
		return err
	}

	var replica errata.Replica
	if *state != "" {
		if err := replica.Load(*state); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	conn, err := o.dial()
	if err != nil {
		return err
	}
	defer conn.Close()
	shown := &shownChanges{program: p, replica: &replica, state: *state, once: *once, bookmarked: -1, saved: -1}
	follower := errata.Follower{
		Learner:    pb.NewLearnerServiceClient(conn),
		Replica:    &replica,
		Watcher:    *name,
		Namespaces: namespaces,
		OnEvent:    shown.show,
	}
	err = follower.Run(ctx)
	if !errors.Is(err, errDone) && !errors.Is(err, context.Canceled) {
		return err
	}
	// In mid-change the file stays as it was, and a later watch goes on from there.
	if err := shown.save(); !errors.Is(err, errata.ErrNotAtBookmark) {
		return err
	}
	return nil
}

// shownChanges prints what happens to a replica, and saves it.
type shownChanges struct {
	program
	replica    *errata.Replica
	state      string
	once       bool
	bookmarked int64 // Revision of the last bookmark shown; -1 before it.
	saved      int64 // Revision of what was saved last; -1 before it.
	savedAt    time.Time
}

func (s *shownChanges) show(event errata.Event) error {
	switch event := event.(type) {
	case errata.Opened:
		fmt.Fprintf(s.stderr, "following store %x, revision %d, %d examples\n",
			event.Hello.GetStoreId(), event.Hello.GetHeadRevision(), event.Hello.GetExampleCount())
	case errata.Changed:
		for _, update := range event.Updates {
			s.change(update)
		}
	case errata.WasReset:
		s.bookmarked = -1
		fmt.Fprintf(s.stdout, "reset     %s\n", strings.TrimPrefix(event.Reason.String(), "WATCH_RESET_REASON_"))
	case errata.UpToDate:
		return s.bookmark(event.Bookmark)
	case errata.Disconnected:
		why := "the Learner ended the stream"
		if event.Err != nil {
			why = event.Err.Error()
		}
		fmt.Fprintf(s.stderr, "%s; calling again in %v\n", why, event.Retry.Round(time.Millisecond))
	}
	return nil
}

func (s *shownChanges) change(update *pb.ExampleUpdate) {
	if put := update.GetPut(); put != nil {
		fmt.Fprintf(s.stdout, "put       %d  %s  %s\n", update.GetRevision(), named(put), command(put))
	} else {
		fmt.Fprintf(s.stdout, "deleted   %d  %s\n", update.GetRevision(), named(update.GetDeleted()))
	}
}

func (s *shownChanges) bookmark(bookmark *pb.WatchBookmark) error {
	if bookmark.GetRevision() != s.bookmarked {
		s.bookmarked = bookmark.GetRevision()
		fmt.Fprintf(s.stdout, "bookmark  %d  %d examples  %v\n", s.bookmarked, s.replica.Len(), s.replica.Digest())
	}
	if time.Since(s.savedAt) >= saveInterval {
		if err := s.save(); err != nil {
			return err
		}
	}
	if s.once {
		return errDone
	}
	return nil
}

func (s *shownChanges) save() error {
	if s.state == "" || s.bookmarked == s.saved {
		return nil
	}
	if err := s.replica.Save(s.state); err != nil {
		return err
	}
	s.saved, s.savedAt = s.bookmarked, time.Now()
	return nil
}

// named is NAMESPACE/ID, or the ID alone in the default namespace.
func named(example interface {
	GetNamespace() string
	GetId() string
}) string {
	if example.GetNamespace() == "" {
		return example.GetId()
	}
	return example.GetNamespace() + "/" + example.GetId()
}
