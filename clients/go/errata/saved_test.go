package errata

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// upToDate is a replica of a store, at a bookmark.
func upToDate(t *testing.T, store *history) *Replica {
	t.Helper()
	replica := &Replica{}
	replica.restart(sourceOf(store.hello().GetHello()))
	batch := store.all().GetBatch()
	if err := errors.Join(replica.apply(batch.GetUpdates(), batch.GetToken()), replica.check(batch.GetBookmark())); err != nil {
		t.Fatal(err)
	}
	return replica
}

func sampleStore() *history {
	store := newHistory("a")
	for _, id := range []string{"one", "two", "three", "one"} {
		store.put(id)
	}
	store.deleted("two")
	return store
}

func TestAReplicaThatWasSavedGoesOnWhereItWas(t *testing.T) {
	store, path := sampleStore(), filepath.Join(t.TempDir(), "state")
	saved := upToDate(t, store)
	saved.advance([]byte("of later")) // As Draining gives it.
	if err := saved.Save(path); err != nil {
		t.Fatal(err)
	}
	loaded := &Replica{}
	if err := loaded.Load(path); err != nil {
		t.Fatal(err)
	}
	missed := store.batch(store.put("four"), store.deleted("three"))
	followWith(t, loaded, func(watched *followed, _ error) {
		if tokens := watched.learner.tokens()[:1]; !slices.Equal(tokens, []string{"of later"}) {
			t.Errorf("presented %q", tokens)
		}
		if ids := watched.ids(); !slices.Equal(ids, []string{"four", "one"}) {
			t.Errorf("holds %q", ids)
		}
		if revisions := watched.bookmarks(); !slices.Equal(revisions, []int64{store.revision}) {
			t.Errorf("was up to date at %v", revisions)
		}
	}, playAndWait(store.hello(), missed, store.bookmark()))
}

func TestAFileThatEndsEarlyOrWasChangedIsNotTakenIn(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state")
	if err := upToDate(t, sampleStore()).Save(path); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for end := range whole {
		if err := os.WriteFile(path, whole[:end], 0o600); err != nil {
			t.Fatal(err)
		}
		var replica Replica
		if err := replica.Load(path); err == nil || replica.Len() != 0 || len(replica.Token()) != 0 {
			t.Fatalf("%d of %d bytes: %v, %d examples, token %q", end, len(whole), err, replica.Len(), replica.Token())
		}
	}
	one := slices.Index(whole, 'o') // Of the ID of the first example.
	whole[one]++
	if err := os.WriteFile(path, whole, 0o600); err != nil {
		t.Fatal(err)
	}
	var replica Replica
	var diverged *DivergedError
	if err := replica.Load(path); !errors.As(err, &diverged) || replica.Len() != 0 {
		t.Errorf("another ID: %v, %d examples", err, replica.Len())
	}
}

func TestAFileThatThereIsNotIsToldApart(t *testing.T) {
	var replica Replica
	if err := replica.Load(filepath.Join(t.TempDir(), "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v", err)
	}
}

func TestWhatNoBookmarkProvesIsNotSavedAndLeavesTheFileAsItWas(t *testing.T) {
	store, directory := sampleStore(), t.TempDir()
	path := filepath.Join(directory, "state")
	if err := (&Replica{}).Save(path); !errors.Is(err, ErrNotAtBookmark) {
		t.Errorf("nothing: %v", err)
	}
	replica := upToDate(t, store)
	if err := replica.Save(path); err != nil {
		t.Fatal(err)
	}
	batch := store.batch(store.put("four")).GetBatch()
	if err := replica.apply(batch.GetUpdates(), batch.GetToken()); err != nil {
		t.Fatal(err)
	}
	if err := replica.Save(path); !errors.Is(err, ErrNotAtBookmark) {
		t.Errorf("after a change: %v", err)
	}
	var loaded Replica
	if err := loaded.Load(path); err != nil || loaded.Len() != 2 {
		t.Errorf("%v, %d examples", err, loaded.Len())
	}
	if left, _ := os.ReadDir(directory); len(left) != 1 {
		t.Errorf("left in the directory: %v", left)
	}
}
