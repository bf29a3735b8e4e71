package report

import (
	"reflect"
	"testing"

	"github.com/escape-scanner/escape-scanner/remediate"
	"github.com/escape-scanner/escape-scanner/remediate/preview"
	"github.com/escape-scanner/escape-scanner/remediate/set"
	"github.com/escape-scanner/escape-scanner/remediate/targets"
	"github.com/escape-scanner/escape-scanner/scan"
	"github.com/escape-scanner/escape-scanner/scan/armor"
)

const remediateSchemaFile = "../docs/remediate.schema.json"

func TestRemediateSchemaHasEveryField(t *testing.T) {
	t.Parallel()
	describesTypes(t, remediateSchemaFile, map[string]reflect.Type{
		"remediation": reflect.TypeFor[remediationJSON](), "set": reflect.TypeFor[setJSON](), "setObject": reflect.TypeFor[setObjectJSON](),
		"options": reflect.TypeFor[set.Options](), "scope": reflect.TypeFor[targets.Scope](), "spared": reflect.TypeFor[set.Spared](),
		"plan": reflect.TypeFor[remediate.Plan](), "change": reflect.TypeFor[remediate.Change](), "block": reflect.TypeFor[remediate.Block](), "ref": reflect.TypeFor[remediate.Ref](),
		"preview": reflect.TypeFor[preview.Report](), "affected": reflect.TypeFor[preview.Workload](), "effect": reflect.TypeFor[preview.Effect](),
		"result": reflect.TypeFor[remediate.Result](), "check": reflect.TypeFor[remediate.Check](),
		"status": reflect.TypeFor[statusJSON](), "standing": reflect.TypeFor[statusSetJSON](), "standingObject": reflect.TypeFor[standingJSON](), "bite": reflect.TypeFor[Bite](),
		"workload": reflect.TypeFor[scan.Workload](), "failure": reflect.TypeFor[scan.Failure](), "location": reflect.TypeFor[scan.Location](), "element": reflect.TypeFor[armor.Element](),
	})
}
