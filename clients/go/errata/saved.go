package errata

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	pb "errata.example/errata/gen/go/errata/v1"
	"google.golang.org/protobuf/encoding/protodelim"
	"google.golang.org/protobuf/proto"
)

// ErrNotAtBookmark says that changes have come since the last bookmark, so that what is held is not proven.
var ErrNotAtBookmark = errors.New("the replica is not at a bookmark")

// Save writes the replica to a file, all of it or nothing, for a later process to go on from. The place to call
// it from is OnEvent, when that is told UpToDate.
//
// The file is a stream as the Learner would send it: a Hello, the examples, and a bookmark that proves them.
func (r *Replica) Save(path string) (err error) {
	messages, err := r.messages()
	if err != nil {
		return err
	}
	file, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			file.Close()
			os.Remove(file.Name())
		}
	}()
	buffered := bufio.NewWriter(file)
	for _, message := range messages {
		if _, err := protodelim.MarshalTo(buffered, message); err != nil {
			return err
		}
	}
	if err := buffered.Flush(); err != nil {
		return err
	}
	if err := file.Sync(); err != nil {
		return err
	}
	if err := file.Close(); err != nil {
		return err
	}
	return os.Rename(file.Name(), path)
}

// Load reads what Save wrote, in place of what is held. An error that is fs.ErrNotExist means that there is no
// such file; after any other the replica is empty.
func (r *Replica) Load(path string) (err error) {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	defer func() {
		if err != nil {
			r.Reset()
			err = fmt.Errorf("%s is damaged, delete it to start from nothing: %w", path, err)
		}
	}()
	buffered := bufio.NewReader(file)
	for {
		var message pb.WatchUpdatesResponse
		if err := protodelim.UnmarshalFrom(buffered, &message); errors.Is(err, io.EOF) {
			return io.ErrUnexpectedEOF
		} else if err != nil {
			return err
		}
		switch said := message.GetMessage().(type) {
		case *pb.WatchUpdatesResponse_Hello:
			r.restart(sourceOf(said.Hello))
		case *pb.WatchUpdatesResponse_Batch:
			if err := r.apply(said.Batch.GetUpdates(), nil); err != nil {
				return err
			}
		case *pb.WatchUpdatesResponse_Bookmark:
			return r.check(said.Bookmark)
		default:
			return errors.New("a message that does not belong there")
		}
	}
}

// messages are those of the stream that would give this replica.
func (r *Replica) messages() ([]*pb.WatchUpdatesResponse, error) {
	r.mutex.RLock()
	defer r.mutex.RUnlock()
	if r.bookmark == nil || r.received > r.bookmark.GetRevision() {
		return nil, ErrNotAtBookmark
	}
	rows := make([]row, 0, len(r.examples))
	for _, held := range r.examples {
		rows = append(rows, held)
	}
	slices.SortFunc(rows, func(a, b row) int { return cmp.Compare(a.revision, b.revision) })
	messages := []*pb.WatchUpdatesResponse{{Message: &pb.WatchUpdatesResponse_Hello{Hello: &pb.WatchHello{
		StoreId: []byte(r.source.storeID), EmbedderFingerprint: r.source.fingerprint,
	}}}}
	for _, held := range rows {
		update := &pb.ExampleUpdate{Revision: held.revision, Change: &pb.ExampleUpdate_Put{Put: held.example}}
		messages = append(messages, &pb.WatchUpdatesResponse{Message: &pb.WatchUpdatesResponse_Batch{
			Batch: &pb.WatchBatch{Updates: []*pb.ExampleUpdate{update}},
		}})
	}
	bookmark := proto.CloneOf(r.bookmark)
	bookmark.Token = r.token
	return append(messages, &pb.WatchUpdatesResponse{Message: &pb.WatchUpdatesResponse_Bookmark{Bookmark: bookmark}}), nil
}
