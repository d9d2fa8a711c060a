"""The explorable: one page on which a photograph goes through a binary layer, every value computed by refdesign.

`scene` is the network and its controls, `tables` everything that the page can show, `page` the HTML. The page's
JavaScript looks values up in the tables and draws them; it computes none.
"""
