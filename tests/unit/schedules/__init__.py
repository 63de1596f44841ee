"""Tests of the timetable and its slot arithmetic."""
