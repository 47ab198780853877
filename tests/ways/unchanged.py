"""The second way: nothing in the program says that it is recorded."""

from night import work

work()
