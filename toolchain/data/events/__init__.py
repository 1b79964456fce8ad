"""Event data: recordings of event cameras and silicon cochleas, made into frames that a student is shown."""
