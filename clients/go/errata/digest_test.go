package errata

import (
	"encoding/json"
	"os"
	"testing"
)

// vectors are shared with the tests of the services; their hashes are of coreutils' b2sum.
const vectors = "../../../tests/errata/digest_vectors.json"

func TestTheDigestIsThatOfTheVectorsInAnyOrder(t *testing.T) {
	var cases []struct {
		Name     string
		Digest   string
		Examples []struct {
			Namespace string
			ID        string
			Revision  int64
		}
	}
	text, err := os.ReadFile(vectors)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &cases); err != nil {
		t.Fatal(err)
	}
	if len(cases) == 0 {
		t.Fatal("no vectors")
	}
	for _, each := range cases {
		t.Run(each.Name, func(t *testing.T) {
			var forwards, backwards Digest
			for i := range each.Examples {
				there, back := each.Examples[i], each.Examples[len(each.Examples)-1-i]
				forwards.Add(Key{there.Namespace, there.ID}, there.Revision)
				backwards.Add(Key{back.Namespace, back.ID}, back.Revision)
			}
			if forwards.String() != each.Digest || backwards.String() != each.Digest {
				t.Errorf("digest %v forwards, %v backwards, want %v", forwards, backwards, each.Digest)
			}
			for _, gone := range each.Examples {
				forwards.Subtract(Key{gone.Namespace, gone.ID}, gone.Revision)
			}
			if forwards != (Digest{}) {
				t.Errorf("all taken out again leaves %v", forwards)
			}
		})
	}
}
