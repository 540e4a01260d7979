"""Drawing: results as pictures and as a page for a browser, for every result that `lay_out` is registered for."""

from recsys_mf.drawing.page import Drawable, Page, PageTable, Section, check_pictures, lay_out
from recsys_mf.drawing.picture import Picture, require_extra

__all__ = ["Drawable", "Page", "PageTable", "Picture", "Section", "check_pictures", "lay_out", "require_extra"]
