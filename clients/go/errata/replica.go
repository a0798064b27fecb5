package errata

import (
	"bytes"
	"fmt"
	"iter"
	"sync"

	pb "errata.example/errata/gen/go/errata/v1"
)

// Key identifies an example. IDs are unique within a namespace; the empty one is the default.
type Key struct{ Namespace, ID string }

// DivergedError says that what a replica holds is not what the Learner sent: there is a bug on one side, and
// the replica is not to be used. Reset it to start over.
type DivergedError struct{ Problem string }

func (e *DivergedError) Error() string { return "the replica has diverged: " + e.Problem }

func diverged(format string, values ...any) error {
	return &DivergedError{Problem: fmt.Sprintf(format, values...)}
}

// Replica is what a watcher holds of the Learner: examples, and the token that resumes after them. The two are
// one thing: they change together, are dropped together and are saved together.
//
// Any goroutine may read it while a Follower feeds it. The zero value holds nothing and is ready for use.
type Replica struct {
	mutex    sync.RWMutex
	examples map[Key]row
	digest   Digest // Invariant: of the keys and revisions in examples.
	token    []byte
	source   source
	received int64             // Revision of the newest change.
	bookmark *pb.WatchBookmark // The last one that agreed; nil before it. Its token may be older than ours.
}

type row struct {
	revision int64
	example  *pb.Example
}

// source is what a stream must have in common with the one before it to go on from the same state.
type source struct{ storeID, fingerprint string }

func sourceOf(hello *pb.WatchHello) source {
	return source{storeID: string(hello.GetStoreId()), fingerprint: hello.GetEmbedderFingerprint()}
}

// Len is the number of examples.
func (r *Replica) Len() int {
	r.mutex.RLock()
	defer r.mutex.RUnlock()
	return len(r.examples)
}

// Get returns an example. Do not change it.
func (r *Replica) Get(key Key) (*pb.Example, bool) {
	r.mutex.RLock()
	defer r.mutex.RUnlock()
	held, ok := r.examples[key]
	return held.example, ok
}

// All goes through the examples in no order. The replica stands still meanwhile: do not linger. Do not change
// the examples.
func (r *Replica) All() iter.Seq2[Key, *pb.Example] {
	return func(yield func(Key, *pb.Example) bool) {
		r.mutex.RLock()
		defer r.mutex.RUnlock()
		for key, held := range r.examples {
			if !yield(key, held.example) {
				return
			}
		}
	}
}

// Digest is that of the examples.
func (r *Replica) Digest() Digest {
	r.mutex.RLock()
	defer r.mutex.RUnlock()
	return r.digest
}

// Token resumes after what is held; empty for a replica that is to start from nothing.
func (r *Replica) Token() []byte {
	r.mutex.RLock()
	defer r.mutex.RUnlock()
	return r.token
}

// Reset drops the examples and their token.
func (r *Replica) Reset() { r.restart(source{}) }

// restart drops everything; what comes next comes from a source.
func (r *Replica) restart(from source) {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	r.examples, r.digest, r.token = nil, Digest{}, nil
	r.source, r.received, r.bookmark = from, 0, nil
}

// continues tells whether a stream of a source can go on from what is held.
func (r *Replica) continues(from source) bool {
	r.mutex.RLock()
	defer r.mutex.RUnlock()
	return r.source == from
}

// apply takes in changes and the token after them.
func (r *Replica) apply(updates []*pb.ExampleUpdate, token []byte) error {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	if r.examples == nil {
		r.examples = make(map[Key]row)
	}
	for _, update := range updates {
		revision := update.GetRevision()
		if revision <= r.received {
			return diverged("revision %d came after revision %d", revision, r.received)
		}
		r.received = revision
		switch change := update.GetChange().(type) {
		case *pb.ExampleUpdate_Put:
			key := Key{Namespace: change.Put.GetNamespace(), ID: change.Put.GetId()}
			r.drop(key)
			r.examples[key] = row{revision: revision, example: change.Put}
			r.digest.Add(key, revision)
		case *pb.ExampleUpdate_Deleted:
			// It may be unknown: it was made and deleted while nobody watched.
			r.drop(Key{Namespace: change.Deleted.GetNamespace(), ID: change.Deleted.GetId()})
		default:
			return diverged("revision %d is a change that this client does not know", revision)
		}
	}
	r.token = token
	return nil
}

func (r *Replica) drop(key Key) {
	if old, ok := r.examples[key]; ok {
		r.digest.Subtract(key, old.revision)
		delete(r.examples, key)
	}
}

// advance takes in a token alone, for what is held as it is.
func (r *Replica) advance(token []byte) {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	r.token = token
}

// check compares what is held with a bookmark, and takes in its token when they agree.
func (r *Replica) check(bookmark *pb.WatchBookmark) error {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	revision := bookmark.GetRevision()
	if newest := max(r.received, r.bookmark.GetRevision()); revision < newest {
		return diverged("the bookmark is of revision %d, but revision %d was received", revision, newest)
	}
	if count := int64(len(r.examples)); bookmark.GetExampleCount() != count {
		return diverged("at revision %d the Learner has %d examples, this client %d", revision, bookmark.GetExampleCount(), count)
	}
	if !bytes.Equal(bookmark.GetDigest(), r.digest.Bytes()) {
		return diverged("at revision %d the Learner's digest is %x, this client's %s", revision, bookmark.GetDigest(), r.digest)
	}
	r.token, r.bookmark = bookmark.GetToken(), bookmark
	return nil
}
