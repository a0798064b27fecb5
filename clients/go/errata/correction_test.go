package errata

import (
	"testing"
	"time"

	pb "errata.example/errata/gen/go/errata/v1"
)

func TestACorrectionIsAProposalAndARunOfOneBlock(t *testing.T) {
	events := Correction{
		BlockID: "b", Namespace: "team", Question: "how much memory?", Language: "bash", Proposed: "top", Ran: "free",
		Labels: map[string]string{"shift": "night"}, Time: time.Unix(50, 0),
	}.Events()
	if len(events) != 2 {
		t.Fatalf("%d events", len(events))
	}
	for _, event := range events {
		if event.GetBlockId() != "b" || event.GetNamespace() != "team" || event.GetLabels()["shift"] != "night" || event.GetEventTime().GetSeconds() != 50 {
			t.Errorf("%v", event)
		}
	}
	proposed, ran := events[0].GetGenerated(), events[1].GetExecuted()
	for _, doc := range []*pb.Doc{proposed.GetDoc(), ran.GetDoc()} {
		if blocks := doc.GetBlocks(); len(blocks) != 1 || blocks[0].GetContents() != "how much memory?" || blocks[0].GetKind() != pb.BlockKind_BLOCK_KIND_MARKUP {
			t.Errorf("%v", doc)
		}
	}
	if proposed.GetBlock().GetContents() != "top" || ran.GetBlock().GetContents() != "free" || ran.GetBlock().GetLanguage() != "bash" {
		t.Errorf("%v, %v", proposed.GetBlock(), ran.GetBlock())
	}
}

func TestWithoutAProposalThereIsTheRunAlone(t *testing.T) {
	events := Correction{BlockID: "b", Question: "how much memory?", Ran: "free"}.Events()
	if len(events) != 1 || events[0].GetExecuted() == nil {
		t.Errorf("%v", events)
	}
}
