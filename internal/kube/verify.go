package kube

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/escape-scanner/escape-scanner/remediate"
	"github.com/escape-scanner/escape-scanner/remediate/set"
	"github.com/escape-scanner/escape-scanner/scan/kernel"
)

// DefaultVerifyTime is how long a Verifier waits after a stage when nothing else is said.
const DefaultVerifyTime = 60 * time.Second

// VerifyOptions say how it is verified that a set bites.
type VerifyOptions struct {
	// Set is what was chosen: its scope says where to look.
	Set set.Options
	// Timeout is how long all that is waited for may take after one stage.
	Timeout time.Duration
	// Tick has it looked again; nil looks twice a second.
	Tick <-chan time.Time
}

// Verifier looks after a stage whether its objects do what they are for, as far as the
// cluster can tell. It changes nothing: the pods that it makes are dry runs.
type Verifier struct {
	cluster *Cluster
	writer  *Writer
	opts    VerifyOptions
}

// NewVerifier verifies in the cluster.
func NewVerifier(cluster *Cluster, opts VerifyOptions) *Verifier {
	opts.Timeout = cmp.Or(opts.Timeout, DefaultVerifyTime)
	return &Verifier{cluster: cluster, writer: cluster.Writer(), opts: opts}
}

// question is something to verify.
type question struct {
	subject string
	// look answers it as things are. Settled is an answer that waiting does not change.
	look func(context.Context) (a answer, settled bool)
}

// answer is what a Check says: what has not been proven is unknown, and no is only what
// was proven wrong.
type answer struct {
	is  kernel.Answer
	why string
}

// Verify looks until all is settled, the time is up or the context ends. It is for
// remediate.ApplyOptions.
func (v *Verifier) Verify(ctx context.Context, stage remediate.Stage, objects []set.Object) []remediate.Check {
	limited, cancel := context.WithTimeout(ctx, v.opts.Timeout)
	defer cancel()
	questions := v.questions(stage, objects)
	answers := make([]answer, len(questions))
	settled := make([]bool, len(questions))
	tick := v.opts.Tick
	if tick == nil {
		ticker := time.NewTicker(500 * time.Millisecond)
		defer ticker.Stop()
		tick = ticker.C
	}
	for again := len(questions) > 0; again; {
		for i, q := range questions {
			if settled[i] || over(limited) {
				continue
			}
			a, done := q.look(limited)
			// A look that the end of the time cut short has seen nothing.
			if done || !over(limited) {
				answers[i], settled[i] = a, done
			}
		}
		again = slices.Contains(settled, false) && waitFor(limited, tick)
	}
	checks := make([]remediate.Check, len(questions))
	for i, q := range questions {
		checks[i] = remediate.Check{Subject: q.subject, Answer: answers[i].is, Message: answers[i].why}
		if settled[i] {
			continue
		}
		if ctx.Err() != nil {
			checks[i].Answer, checks[i].Message = kernel.Unknown, "interrupted before it was known"
			continue
		}
		checks[i].Answer = cmp.Or(checks[i].Answer, kernel.Unknown)
		checks[i].Message = fmt.Sprintf("%s (waited %s)", cmp.Or(answers[i].why, "the time was up before it was looked at"), v.opts.Timeout)
	}
	return checks
}

// over reports whether the time is up. A request may be told so before the context is.
func over(ctx context.Context) bool {
	deadline, ok := ctx.Deadline()
	return ctx.Err() != nil || ok && !time.Now().Before(deadline)
}

// waitFor waits for the next tick, and reports whether there is one before the end.
func waitFor(ctx context.Context, tick <-chan time.Time) bool {
	select {
	case <-ctx.Done():
		return false
	case <-tick:
		return ctx.Err() == nil
	}
}

// questions are those that the objects of a stage raise.
func (v *Verifier) questions(stage remediate.Stage, objects []set.Object) []question {
	var questions []question
	var admission []*unstructured.Unstructured
	runtime, final := false, false
	for i := range objects {
		form := formOf(&objects[i], stage)
		if form == nil {
			continue
		}
		if objects[i].Part != set.PartAdmission {
			// That nodes have no agent is told at the end: it is no reason not to refuse
			// on the others.
			runtime = runtime || form == objects[i].Final()
			continue
		}
		admission = append(admission, form)
		final = final || form == objects[i].Final()
		ref := remediate.RefOf(form)
		if accepted := acceptance(ref); accepted != nil {
			questions = append(questions, question{"accepted: " + ref.String(), func(ctx context.Context) (answer, bool) {
				object, err := v.writer.Get(ctx, ref)
				if err != nil {
					return unread(err)
				}
				return accepted(object)
			}})
		}
	}
	// Of what only reports for now, and warns nobody, the next stage tells whether it acts.
	if len(admission) > 0 && (stage == remediate.StageEnforce || final || warns(admission)) {
		questions = append(questions, v.proofs(stage, admission)...)
	}
	if runtime {
		questions = append(questions, question{"KubeArmor's agents", v.agents})
	}
	return questions
}

// formOf is the form of an object in a stage, nil when it has none.
func formOf(o *set.Object, stage remediate.Stage) *unstructured.Unstructured {
	if stage == remediate.StageEnforce {
		return o.Enforce
	}
	return o.Audit
}

// unread is the answer when something could not be read. What is forbidden stays so.
func unread(err error) (answer, bool) {
	if apierrors.IsNotFound(err) {
		return answer{kernel.No, "it is not there: " + err.Error()}, false
	}
	return answer{kernel.Unknown, err.Error()}, permanent(err) != nil
}
