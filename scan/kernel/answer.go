package kernel

// And is the answer to "all of these": no as soon as one is no, unknown when that
// much cannot be said. An answer that is empty or strange counts as unknown.
func And(answers ...Answer) Answer {
	all := Yes
	for _, a := range answers {
		switch a {
		case No:
			return No
		case Yes:
		default:
			all = Unknown
		}
	}
	return all
}

// weaker is the worse founded of two grades, of which "" is none at all and not a
// grade.
func weaker(a, b Grade) Grade {
	switch {
	case a == "":
		return b
	case b == "", a.Rank() <= b.Rank():
		return a
	}
	return b
}

func stronger(a, b Grade) Grade {
	if a.Rank() >= b.Rank() {
		return a
	}
	return b
}
