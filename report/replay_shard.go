package report

import (
	"bufio"
	"errors"
	"fmt"
	"io"

	"github.com/escape-scanner/escape-scanner/scan"
)

// ReplayShard reads the stream of one shard of a cluster, as Replay reads that of a
// whole one. Replay refuses it, for there are no results in it.
func ReplayShard(r io.Reader, h scan.Handler) error {
	p := &replayer{h: h, maxLine: maxLine, shard: &replayedShard{}}
	return p.run(bufio.NewReaderSize(r, 64<<10))
}

// replayedShard is how far the stream of a shard has come.
type replayedShard struct {
	around, counted bool
	rows            *scan.ShardOrder
}

// checkShard refuses the stream of a shard where results are wanted, and results where
// the stream of a shard is wanted.
func (p *replayer) checkShard(e scan.Event) error {
	switch {
	case e.Start != nil && p.shard == nil && e.Start.Shard != nil:
		return fmt.Errorf("shard %s of a scan, which has no results of its own: join all shards first (escape-scanner merge FILE...)", *e.Start.Shard)
	case e.Start != nil && p.shard != nil && (e.Start.Shard == nil || !e.Start.Shard.Valid()):
		return errors.New("not the run of a shard, as scan --shard writes it")
	case p.shard == nil && e.Part != nil:
		return errors.New("part: only a shard has such events, and the start says that this is none")
	case p.shard != nil && e.Start != nil:
		p.shard.rows = scan.NewShardOrder(e.Start)
		return nil
	case p.shard == nil || e.Progress != nil || e.Failure != nil:
		return nil
	}
	return p.shard.check(e)
}

func (s *replayedShard) check(e scan.Event) error {
	part := e.Part
	switch {
	case e.End != nil && !e.End.Interrupted && !s.counted:
		return errors.New("end: parts of the shard are missing before it")
	case e.End != nil && e.End.Interrupted && s.around:
		return errors.New("end: interrupted, and parts before it: a shard that is interrupted tells none")
	case e.End != nil:
		return nil
	case part == nil:
		kind, _ := kindOf(e)
		return fmt.Errorf("%s: a shard has no such events", kind)
	case part.Around != nil && !s.counted:
		s.around = true
	case part.Counts != nil && s.around && !s.counted:
		s.counted = true
	case part.Row != nil && s.counted:
		if err := s.rows.Next(part.Row); err != nil {
			return fmt.Errorf("part: %w", err)
		}
	default:
		return errors.New("part: out of its order: want around, counts and then rows")
	}
	return nil
}

// checkPart refuses parts of which no result could be made, and words that are not known
// to this version.
func checkPart(p *scan.Part) error {
	err := p.Check()
	if err != nil {
		return err
	}
	var findings []scan.Finding
	switch {
	case p.Around != nil:
		findings = p.Around.Findings
		for i := range p.Around.Nodes {
			if e := p.Around.Nodes[i].Enforcement; e != nil {
				err = firstError(err, checkEnforcement(e))
			}
		}
	case p.Row != nil:
		findings = p.Row.Findings
		if p.Row.Severity != "" {
			err = known("severity ", p.Row.Severity, scan.Severities()...)
		}
		for _, l := range p.Row.Layers {
			err = firstError(err, checkLayers(l, true))
		}
		for i := range p.Row.Admitted {
			err = firstError(err, checkAdmitted(&p.Row.Admitted[i]))
		}
	}
	for i := range findings {
		err = firstError(err, known("severity ", findings[i].Severity, scan.Severities()...))
	}
	return err
}

func checkAdmitted(a *scan.Admitted) error {
	err := firstError(knownAdmission("admission ", a.Decision.Answer), knownReopen(a.Reopen))
	for i := range a.Decision.Rulings {
		err = firstError(err, knownAdmission("ruling ", a.Decision.Rulings[i].Answer))
	}
	for i := range a.Cells {
		err = firstError(err, checkCell(&a.Cells[i].Cell))
	}
	return err
}
