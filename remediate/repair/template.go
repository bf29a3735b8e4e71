package repair

import "regexp"

// action finds the actions of Go templates as charts have them. Other languages with
// the same braces, such as that of Argo workflows, name plain words in them.
var action = regexp.MustCompile("\\{\\{-?\\s*(?:[.$(/\"`]|(?:if|else|end|with|range|define|block|template|include|tpl|toYaml|toJson|default|required|printf|quote|lookup|fail|not|eq|ne|and|or)\\b)")

func isTemplate(text []byte) bool { return action.Match(text) }

const templateReason = "it is a Helm template: repair the template or its values by hand, or what it renders to"
