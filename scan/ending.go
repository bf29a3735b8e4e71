package scan

import (
	"errors"
	"fmt"
	"iter"
	"slices"
)

// ending is what the end of a scan is made of, whether one scan read it or several that
// are joined.
type ending struct {
	cluster      string
	namespaces   []string
	declarations Declarations
	// pods is how the pods were read; missing is everything that could not be.
	pods    *podReading
	missing []Failure
	// seen are the namespaces that have workloads of their own.
	seen    map[string]bool
	outline *Outline
	rules   *ruleIndex
	// crowded are the nodes with more containers than are enforced, in order.
	crowded []string
	halves  []Halves
	counts  End
	next    Handler
}

func (e *ending) handle(event Event) error {
	if err := e.next.Handle(event); err != nil {
		return fmt.Errorf("%w: %w", errHandler, err)
	}
	return nil
}

// send tells what is missing, the workloads, what is wrong around them, and the end. The
// rows come in their order; each is asked for when the one before it was told.
func (e *ending) send(all iter.Seq2[*rows, error]) error {
	if err := sendFailures(e.missing, e.next); err != nil {
		return err
	}
	// A namespace whose pods could not be read must not be missing from a list of
	// verdicts.
	for _, v := range e.pods.unread(e.cluster, e.seen) {
		if err := e.handle(Event{Verdict: v}); err != nil {
			return err
		}
	}
	tally := newPolicyTally()
	for row, err := range all {
		if err != nil {
			return err
		}
		decl := row.decl
		if e.declarations != nil {
			if d, ok := e.declarations.Find(row.workload); ok {
				decl = d
			}
		}
		if err := row.emit(decl, e.pods.finish(row), e.rules, e.next); err != nil {
			return fmt.Errorf("%w: %w", errHandler, err)
		}
		tally.add(row.policyParts(e.rules))
	}
	if err := e.sendPolicies(tally); err != nil {
		return err
	}
	end := e.counts
	end.Incomplete = end.Incomplete || len(e.missing) > 0
	return e.handle(Event{End: &end})
}

// sendPolicies sends what is wrong with policies and nodes themselves, and what each
// policy does.
func (e *ending) sendPolicies(tally *policyTally) error {
	scope := policyScope{namespaces: e.namespaces, whole: e.pods.whole}
	findings, policies := e.outline.events(e.cluster, e.rules, tally, scope, e.crowded, e.halves)
	for i := range findings {
		if err := e.handle(Event{Finding: &findings[i]}); err != nil {
			return err
		}
	}
	for i := range policies {
		if err := e.handle(Event{Policy: &policies[i]}); err != nil {
			return err
		}
	}
	return nil
}

// sendFailures sends what could not be read, in the same order in every run.
func sendFailures(missing []Failure, next Handler) error {
	slices.SortStableFunc(missing, compareFailures)
	for i := range missing {
		if err := next.Handle(Event{Failure: &missing[i]}); err != nil {
			return fmt.Errorf("%w: %w", errHandler, err)
		}
	}
	return nil
}

// errHandler marks errors of the handler: the stream cannot go on.
var errHandler = errors.New("cannot write the result")
