"""The models of Paper B: the twelve families (Appendix F) and the toy model (Appendix E)."""
