package logfile

// Tidied waits for the work on files that were put aside.
func Tidied(f *File) { f.tidying.done.Wait() }
