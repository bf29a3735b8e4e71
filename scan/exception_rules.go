package scan

// The rules about exceptions of the configuration themselves.
const (
	ruleExceptionUnused  = "exception-unused"
	ruleExceptionExpired = "exception-expired"
)

func exceptionRules() []Rule {
	return []Rule{
		{
			ID: ruleExceptionUnused, Category: CategoryException, Title: "Exception that matches nothing", Severity: SeverityLow, SecuritySeverity: SeverityLow.securitySeverity(),
			Description: "An exception of the configuration covers no finding of this run: what it excused is gone, or it never matched.",
			Attack:      "An exception that nobody needs waits for a workload of the same name.",
			Remediation: "Remove the exception, or correct it.",
			CWE:         []int{693}, HelpURL: rulePage(ruleExceptionUnused),
		},
		{
			ID: ruleExceptionExpired, Category: CategoryException, Title: "Exception that has expired", Severity: SeverityMedium, SecuritySeverity: SeverityMedium.securitySeverity(),
			Description: "An exception of the configuration is past its date. It covers nothing any more: the findings that it matches count again.",
			Attack:      "What was to be mended by that date is still open.",
			Remediation: "Mend the findings, or agree on a new date.",
			CWE:         []int{693}, HelpURL: rulePage(ruleExceptionExpired),
		},
	}
}
